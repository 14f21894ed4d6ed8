/* Fuzz imapd.conf: whatever the text, reading ends, and a snapshot that was made answers for every option. */
#include <stddef.h>
#include <stdint.h>

#include "util/conf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct input { const uint8_t *p; size_t len; };

/* Every file, included ones too, has the same text. */
static int slurp_input(void *context, const char *path, struct str *out, struct err *err)
{
        const struct input *in = context;

        (void)path;
        (void)err;
        str_append(out, in->p, in->len);
        return 0;
}

static void ask(const struct conf *c, const char *service)
{
        size_t count;
        const struct conf_option *o = conf_options(&count);

        for (size_t i = 0; i < count; i++)
                switch (o[i].type) {
                case CONF_STRING: conf_str(c, service, o[i].name); break;
                case CONF_INT: conf_int(c, service, o[i].name); break;
                case CONF_SWITCH: conf_switch(c, service, o[i].name); break;
                case CONF_DURATION: conf_duration_s(c, service, o[i].name); break;
                case CONF_BYTES: conf_bytes(c, service, o[i].name); break;
                case CONF_ENUM: conf_enum(c, service, o[i].name); break;
                case CONF_SET: conf_raw(c, service, o[i].name); break;
                }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        static const char *const services[] = { "imap", "sync", NULL };
        struct input in = { data, size };
        struct conf_source source = { slurp_input, &in };
        struct diag diag = DIAG_INIT;
        struct conf *c;
        struct err err = ERR_INIT;

        if (size > 65536)
                return 0;
        if (conf_load("/f", &source, &c, &diag, &err) == 0) {
                ask(c, NULL);
                ask(c, "imap");
                ask(c, "sync");
                conf_require_store(c, &diag, &err);
                conf_check_services(c, services, &diag);
                conf_unref(&c);
        }
        diag_deinit(&diag);
        return 0;
}
