/*
 * ctl_mboxlist - the mailbox list as JSON, out (-d) and in (-u), and whether it agrees with the partitions (-v).
 * The form is Cyrus 3.6's: one object, a member a line, keyed by internal name, all values but the ACL strings. What was dumped by a real
 * Cyrus can be loaded: names, ACLs, partitions, unique ids and uidvalidities come over; the mail does not.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "server/tools/tool.h"
#include "util/must.h"

struct dump {
        struct tool t;
        const char *partition;                  /* only this one; NULL: all */
        bool intermediates, remove;
        unsigned n;
        json_t *dumped;                         /* names, for -x */
        unsigned problems;
};

static json_t *acl_json(const char *acl)
{
        json_t *object = json_object();

        while (*acl) {
                size_t id = strcspn(acl, "\t"), rights;
                char *key;

                if (acl[id] == '\0')
                        break;
                rights = strcspn(acl + id + 1, "\t");
                key = xstrndup(acl, id);
                json_object_set_new(object, key, json_stringn(acl + id + 1, rights));
                free(key);
                acl += id + 1 + rights;
                acl += *acl == '\t';
        }
        return object;
}

static json_t *number_string(json_t *row, const char *key)
{
        return json_sprintf("%lld", (long long)json_integer_value(json_object_get(row, key)));
}

/* Mail is "e"; what nobody can select but has children "i"; a name that MUPDATE or an administrator holds "r", "m", a remote one "er". */
static const char *mbtype(const char *type)
{
        return strcmp(type, "intermediate") == 0 ? "i" : strcmp(type, "remote") == 0 ? "er"
             : strcmp(type, "reserved") == 0 ? "ez" : strcmp(type, "moving") == 0 ? "em" : "e";
}

static void dump_row(void *ctx, json_t *row)
{
        struct dump *d = ctx;
        const char *name = tool_str(row, "name"), *partition = tool_str(row, "partition"), *type = tool_str(row, "type");
        json_t *out;
        char *text, *key;

        if ((d->partition && strcmp(d->partition, partition) != 0) || (strcmp(type, "intermediate") == 0 && !d->intermediates))
                return;
        out = json_pack("{s:s, s:o, s:o, s:o, s:o, s:s, s:s, s:o, s:s, s:[]}", "name", name, "mtime", number_string(row, "changed"),
                        "uidvalidity", number_string(row, "uidvalidity"), "createdmodseq", number_string(row, "createdmodseq"), "foldermodseq",
                        number_string(row, "foldermodseq"), "mbtype", mbtype(type), "partition", partition, "acl",
                        acl_json(tool_str(row, "acl")), "uniqueid", tool_str(row, "uniqueid"), "name_history");
        text = out ? json_dumps(out, JSON_PRESERVE_ORDER) : NULL;
        key = json_dumps(json_object_get(out, "name"), JSON_ENCODE_ANY);
        if (text && key)
                printf("%s%s: %s", d->n++ ? ",\n" : "{\n", key, text);
        if (d->remove)
                json_array_append_new(d->dumped, json_string(tool_str(row, "mailbox")));
        free(text);
        free(key);
        json_decref(out);
}

static int dump(struct dump *d)
{
        struct err err = ERR_INIT;
        size_t i;
        json_t *name;

        d->dumped = json_array();
        if (tool_call(&d->t, "list", json_object(), dump_row, d, &err) < 0)
                return tool_fail(&d->t, &err);
        fputs(d->n ? "\n}\n" : "{\n}\n", stdout);
        if (fflush(stdout) != 0) {              /* -x must not remove what nobody got */
                err_errno(&err, errno, "standard output");
                return tool_fail(&d->t, &err);
        }
        json_array_foreach(d->dumped, i, name)
                if (tool_call(&d->t, "mailbox.delete", json_pack("{s:O}", "mailbox", name), dump_row, d, &err) < 0)
                        return tool_fail(&d->t, &err);
        json_decref(d->dumped);
        return TOOL_OK;
}

/* ---- -u ---- */

static void no_row(void *ctx, json_t *row)
{
        (void)ctx;
        (void)row;
}

static int undump(struct dump *d)
{
        json_error_t error;
        struct err err = ERR_INIT;
        const char *name;
        json_t *all = json_loadf(stdin, JSON_REJECT_DUPLICATES, &error), *entry;
        unsigned failed = 0, n = 0;

        if (!json_is_object(all)) {
                fprintf(stderr, "%s: not a dump: line %d: %s\n", d->t.name, error.line, all ? "an object is wanted" : error.text);
                json_decref(all);
                return TOOL_DATA;
        }
        json_object_foreach(all, name, entry) {
                json_t *args = json_pack("{s:s, s:O}", "name", name, "entry", entry);

                n++;
                err_clear(&err);
                if (!args || tool_call(&d->t, "mailbox.load", args, no_row, d, &err) < 0) {
                        failed++;
                        fprintf(stderr, "%s: %s: %s\n", d->t.name, name, args ? err.text : "not an entry");
                }
        }
        json_decref(all);
        if (failed)
                fprintf(stderr, "%s: %u of %u entries were not loaded\n", d->t.name, failed, n);
        return failed ? TOOL_FAILED : TOOL_OK;
}

/* ---- -v ---- */

static void problem_row(void *ctx, json_t *row)
{
        struct dump *d = ctx;

        if (strcmp(tool_str(row, "kind"), "problem") != 0)
                return;
        d->problems++;
        printf("%s\n", tool_str(row, "problem"));
}

static int verify(struct dump *d)
{
        struct err err = ERR_INIT;

        if (tool_call(&d->t, "list.check", json_object(), problem_row, d, &err) < 0)
                return tool_fail(&d->t, &err);
        return TOOL_OK;                         /* as Cyrus: what was found is in the output */
}

int tool_ctl_mboxlist_main(int argc, char **argv)
{
        static const char usage[] = "usage: ctl_mboxlist [-C imapd.conf] -d [-x] [-y] [-p partition]\n"
                                    "       ctl_mboxlist [-C imapd.conf] -u < dump\n"
                                    "       ctl_mboxlist [-C imapd.conf] -v\n";
        struct dump d = { .n = 0 };
        const char *config = NULL;
        int opt, what = 0, ret;

        while ((opt = getopt(argc, argv, "C:dxyp:f:uLmawiv")) != -1) {
                switch (opt) {
                case 'C': config = optarg; break;
                case 'd': case 'u': case 'v': case 'm':
                        if (what && what != opt) {
                                fputs(usage, stderr);
                                return TOOL_USAGE;
                        }
                        what = opt;
                        break;
                case 'x': d.remove = true; break;
                case 'y': d.intermediates = true; break;
                case 'p': d.partition = optarg; break;
                case 'f': case 'L':
                        fprintf(stderr, "ctl_mboxlist: -%c: the mailbox list is not a file of Cyrus's here\n", opt);
                        return TOOL_USAGE;
                case 'a': case 'w': case 'i': break;
                default: fputs(usage, stderr); return TOOL_USAGE;
                }
        }
        if (!what || optind < argc) {
                fputs(usage, stderr);
                return TOOL_USAGE;
        }
        if (what == 'm') {
                fprintf(stderr, "ctl_mboxlist: -m: MUPDATE is not built into this release of cyrd\n");
                return TOOL_FAILED;
        }
        ret = tool_open(&d.t, "ctl_mboxlist", config, TOOL_STORE) < 0 ? TOOL_FAILED
            : what == 'd' ? dump(&d) : what == 'u' ? undump(&d) : verify(&d);
        tool_close(&d.t);
        return ret;
}
