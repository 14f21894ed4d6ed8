#include "server/tls.h"
#include "server/stream_private.h"
#include "server/sasl.h"
int tls_context_create(struct conf *conf, const char *service, const char *const *alpn, struct tls_context **tls_r, struct err *err)
{ (void)conf; (void)service; (void)alpn; (void)tls_r; return err_set(err, ERR_NOTFOUND, "no TLS yet"); }
struct tls_context *tls_context_ref(struct tls_context *tls) { return tls; }
void tls_context_unref(struct tls_context **tls) { *tls = NULL; }
int tls_init(struct err *err) { (void)err; return 0; }
int stream_start_tls(struct stream *s, struct tls_context *tls, struct err *err) { (void)s; (void)tls; return err_set(err, ERR_UNSUPPORTED, "no TLS yet"); }
enum stream_result stream_handshake(struct stream *s, struct err *err) { (void)s; err_set(err, ERR_UNSUPPORTED, "no TLS yet"); return STREAM_FAILED; }
bool stream_is_tls(const struct stream *s) { (void)s; return false; }
const char *stream_tls_version(const struct stream *s) { (void)s; return ""; }
unsigned stream_tls_bits(const struct stream *s) { (void)s; return 0; }
bool stream_channel_binding(struct stream *s, const char *type, struct str *out) { (void)s; (void)type; (void)out; return false; }
const char *stream_tls_peer(const struct stream *s) { (void)s; return NULL; }
enum stream_result tls_read(struct stream *s, void *buf, size_t max, size_t *n_r, struct err *err) { (void)s; (void)buf; (void)max; (void)n_r; (void)err; return STREAM_FAILED; }
enum stream_result tls_write(struct stream *s, const void *p, size_t len, size_t *n_r, struct err *err) { (void)s; (void)p; (void)len; (void)n_r; (void)err; return STREAM_FAILED; }
enum stream_result tls_flush(struct stream *s, struct err *err) { (void)s; (void)err; return STREAM_OK; }
bool tls_pending(const struct stream *s) { (void)s; return false; }
void tls_shutdown(struct stream *s) { (void)s; }
void tls_release(struct stream *s) { (void)s; }
void sasl_conn_destroy(struct sasl_conn **conn) { *conn = NULL; }
int sasl_layer_encode(struct sasl_conn *conn, const void *p, size_t len, struct str *out, struct err *err) { (void)conn; (void)p; (void)len; (void)out; (void)err; return -1; }
int sasl_layer_decode(struct sasl_conn *conn, const void *p, size_t len, struct str *out, struct err *err) { (void)conn; (void)p; (void)len; (void)out; (void)err; return -1; }
unsigned sasl_layer_max(struct sasl_conn *conn) { (void)conn; return 0; }
