/* Stands in for SASL until it is there. */
#include "server/sasl.h"

int sasl_setup(struct conf_live *conf, struct err *err) { (void)conf; (void)err; return 0; }
void sasl_teardown(void) { }
int sasl_conn_create(const struct sasl_params *params, struct store *store, struct sasl_conn **conn_r, struct err *err)
{
        (void)params;
        (void)store;
        *conn_r = 0;
        return err_set(err, ERR_UNSUPPORTED, "no SASL yet");
}
const char *sasl_mechanisms(struct sasl_conn *conn, struct arena *arena) { (void)conn; (void)arena; return ""; }
