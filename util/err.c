/* err - see err.h */
#include "util/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char *const code_names[ERR_CODE_MAX] = {
        "none", "syntax", "limit", "corrupt", "io", "nospace", "nomem", "perm", "readonly", "notfound", "exists", "badname",
        "busy", "quota", "unavailable", "unsupported", "charset", "auth", "closed", "timeout", "cancelled", "foreign", "config",
        "haschildren", "fenced", "internal",
};

/* By way of a second buffer, because the arguments may name err->text itself. */
static void format(struct err *err, const char *fmt, va_list ap)
{
        char text[ERR_TEXT_MAX] = "";

        vsnprintf(text, sizeof text, fmt, ap);
        memcpy(err->text, text, sizeof text);
}

int err_set(struct err *err, enum err_code code, const char *fmt, ...)
{
        va_list ap;

        if (!err)
                return -1;
        err->code = code;
        va_start(ap, fmt);
        format(err, fmt, ap);
        va_end(ap);
        return -1;
}

static enum err_code code_of_errno(int e)
{
        switch (e) {
        case ENOSPC:
        case EDQUOT:
                return ERR_NOSPACE;
        case ENOENT:
                return ERR_NOTFOUND;
        case EROFS:
                return ERR_READONLY;
        case EEXIST:
                return ERR_EXISTS;
        case ENOMEM:
                return ERR_NOMEM;
        default:
                return ERR_IO;
        }
}

int err_errno(struct err *err, int errno_value, const char *fmt, ...)
{
        va_list ap;
        size_t len;

        if (!err)
                return -1;
        err->code = code_of_errno(errno_value);
        va_start(ap, fmt);
        format(err, fmt, ap);
        va_end(ap);
        len = strlen(err->text);
        snprintf(err->text + len, sizeof err->text - len, ": %s", strerror(errno_value));
        return -1;
}

int err_prefix(struct err *err, const char *fmt, ...)
{
        char old[ERR_TEXT_MAX];
        va_list ap;
        size_t len;

        if (!err)
                return -1;
        memcpy(old, err->text, sizeof old);
        va_start(ap, fmt);
        format(err, fmt, ap);
        va_end(ap);
        len = strlen(err->text);
        snprintf(err->text + len, sizeof err->text - len, ": %s", old);
        return -1;
}

void err_clear(struct err *err)
{
        if (err) {
                err->code = ERR_NONE;
                err->text[0] = '\0';
        }
}

void err_copy(struct err *to, const struct err *from)
{
        if (to && to != from)
                *to = *from;
}

const char *err_code_name(enum err_code code)
{
        return (unsigned)code < ERR_CODE_MAX ? code_names[code] : "unknown";
}
