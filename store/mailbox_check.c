/*
 * mailbox_check - cyrctl check and reconstruct. A check loads the mailbox twice into private objects, by its index and from the log
 * alone (every record, every octet), and compares. The open mailbox, if there is one, is only asked how far its log is synced.
 */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <string.h>
#include <unistd.h>

#include "store/mailbox_private.h"
#include "util/fs.h"
#include "util/log.h"
#include "util/must.h"

#define READ_BUFFER (256u << 10)

/* ---- blobs ---- */

static void check_blob(struct mailbox *m, const struct index_rec *rec, struct check_report *report)
{
        struct segment *s = mailbox_segment(m, rec->segment);
        struct str front = STR_INIT, path = STR_INIT;
        struct mlog_header h;
        struct err err = ERR_INIT;
        struct digest digest;
        uint8_t guid[GUID_SIZE];
        char *buf = xmalloc(READ_BUFFER);
        FILE *f = NULL;
        uint64_t size = 0;
        size_t n;

        report->blobs++;
        if (!s || mlog_read_record(s->file, &s->info, rec->offset, &h, &front, &err) < 0 || h.type != MLOG_MESSAGE) {
                mailbox_problem(m, report, rec->uid, "its record cannot be read: %s", s ? err.text : "no segment");
                goto out;
        }
        str_printf(&path, "%s/", m->dir);
        blob_name(&path, rec->guid, ((const struct mlog_message *)(const void *)front.data)->blob_number);
        f = fopen(path.data, "re");
        if (!f) {
                mailbox_problem(m, report, rec->uid, "its blob cannot be opened: errno %d", errno);
                goto out;
        }
        digest_init(&digest);
        while ((n = fread(buf, 1, READ_BUFFER, f)) > 0) {
                digest_update(&digest, buf, n);
                size += n;
        }
        digest_final(&digest, guid);
        report->octets += size;
        if (ferror(f))
                mailbox_problem(m, report, rec->uid, "its blob cannot be read");
        else if (size != rec->size || memcmp(guid, rec->guid, sizeof guid) != 0)
                mailbox_problem(m, report, rec->uid, "its blob does not have its GUID");
out:
        if (f)
                fclose(f);
        free(buf);
        str_deinit(&front);
        str_deinit(&path);
}

/* ---- comparing ---- */

/* The name of the first thing that differs, NULL: nothing does. */
static const char *difference(const struct index_rec *a, const struct index_rec *b)
{
        if (a->flags != b->flags || a->kwset != b->kwset)
                return a->flags != b->flags ? "flags" : "keywords";
        if (a->modseq != b->modseq || a->createdmodseq != b->createdmodseq)
                return "modseq";
        if (a->last_updated != b->last_updated || a->internaldate != b->internaldate || a->savedate != b->savedate ||
            a->sentdate != b->sentdate)
                return "dates";
        if (a->size != b->size || a->header_size != b->header_size || memcmp(a->guid, b->guid, sizeof a->guid) != 0)
                return "size or GUID";
        return a->thrid != b->thrid || a->emailid != b->emailid ? "thread or email id" : NULL;
}

static int compare(struct mailbox *by_index, struct mailbox *by_log, struct check_report *report, struct err *err)
{
        const struct index_counters *ci = index_counters(by_index->ix), *cl = index_counters(by_log->ix);
        struct index_iter ii, il;
        struct index_rec a, b;
        int ra, rb;

        index_iter_init(&ii, by_index->ix, 1);
        index_iter_init(&il, by_log->ix, 1);
        ra = index_next(&ii, &a, err);
        rb = index_next(&il, &b, err);
        while (ra > 0 || rb > 0) {
                if (ra <= 0 || (rb > 0 && b.uid < a.uid)) {
                        mailbox_problem(by_log, report, b.uid, "the log has it, the index does not");
                        rb = index_next(&il, &b, err);
                } else if (rb <= 0 || a.uid < b.uid) {
                        mailbox_problem(by_log, report, a.uid, "its record in the log is damaged or missing");
                        ra = index_next(&ii, &a, err);
                } else {
                        const char *what = difference(&a, &b);

                        if (what)
                                mailbox_problem(by_log, report, a.uid, "index and log differ: %s", what);
                        ra = index_next(&ii, &a, err);
                        rb = index_next(&il, &b, err);
                }
        }
        if (ra < 0 || rb < 0)
                return -1;
        if (ci->uidnext != cl->uidnext || ci->highestmodseq != cl->highestmodseq || ci->deletedmodseq != cl->deletedmodseq)
                mailbox_problem(by_log, report, 0, "counters of index and log differ: uidnext %u/%u highestmodseq %llu/%llu", ci->uidnext,
                                cl->uidnext, (unsigned long long)ci->highestmodseq, (unsigned long long)cl->highestmodseq);
        return 0;
}

/* Damaged octets of messages that are there, or could be brought back. Those of others are taken away by compaction some day. */
static void tell_rotten(struct mailbox *m, struct check_report *report)
{
        for (size_t i = 0; i < m->rotten.n; i++) {
                const struct rotten *at = &m->rotten.v[i];
                struct index_rec rec;

                if (index_find(m->ix, at->uid, &rec, NULL) != 1 || rec.segment != at->segment || rec.offset != at->offset ||
                    (rec.flags & MSG_UNLINKED))
                        continue;
                mailbox_problem(m, report, at->uid, "octets are damaged: %s", rec.flags & MSG_EXPUNGED ? "they go when cyr_expire purges what was expunged" :
                                "bring the message back from a copy, or EXPUNGE it");
        }
}

static void count(struct mailbox *m, struct check_report *report)
{
        struct index_iter it;
        struct index_rec rec;

        index_iter_init(&it, m->ix, 1);
        while (index_next(&it, &rec, NULL) == 1) {
                if (rec.flags & MSG_EXPUNGED)
                        report->tombstones++;
                else
                        report->messages++;
                if ((rec.flags & (MSG_BLOB | MSG_UNLINKED)) == MSG_BLOB)
                        check_blob(m, &rec, report);
        }
        for (uint32_t i = 0; i < m->segs_n; i++) {
                report->segments++;
                report->octets += m->segs[i]->end;
        }
}

/* One more problem: how it ended for this mailbox. */
static int cannot_load(struct mailbox *m, struct check_report *report, const struct err *why)
{
        mailbox_problem(m, report, 0, "%s", why->text);
        return 0;
}

static int check_private(struct store *store, const struct mailbox_ident *ident, uint64_t limit, struct check_report *report,
                         struct err *err)
{
        struct mailbox *by_index = mailbox_alloc(store, NULL, ident), *by_log = mailbox_alloc(store, NULL, ident);
        unsigned flags = LOAD_READONLY | (limit ? LOAD_ROLLBACK : 0);
        struct check_report silent = { .messages = 0 };
        int rc;

        by_index->durable_mark = by_log->durable_mark = limit;
        rc = mailbox_load(by_log, ident, flags | LOAD_REBUILD | LOAD_CHECK_BODIES, report, err);
        if (rc == 0) {
                rc = mailbox_load(by_index, ident, flags, &silent, err);
                if (rc == 0)
                        rc = compare(by_index, by_log, report, err);
                else
                        rc = cannot_load(by_log, report, err);
                tell_rotten(by_log, report);
                count(by_log, report);
        } else if (err->code == ERR_CORRUPT || err->code == ERR_NOTFOUND) {
                rc = cannot_load(by_log, report, err);
        }
        mailbox_free(&by_index);
        mailbox_free(&by_log);
        return rc;
}

/* Where it is now is looked up when its directory cannot go away any more. */
static void look_begin(struct store *store, struct mailbox_ident *ident)
{
        const char *now;

        logstore_look_begin(store_logstore(store));
        now = store_mailbox_partition_dir(store, ident->uniqueid);
        if (now)
                ident->partition_dir = now;
}

int mailbox_check_files(struct store *store, const struct mailbox_ident *asked, struct check_report *report, struct err *err)
{
        struct mailbox *open = mailbox_find_open(store, asked->uniqueid);
        struct mailbox_ident here = *asked, *ident = &here;
        uint64_t limit = 0;
        int rc;

        if (!open) {
                look_begin(store, ident);
                rc = check_private(store, ident, 0, report, err);
                logstore_look_end(store_logstore(store));
                return rc;
        }
        mailbox_maintain_begin(open);                   /* no segment goes away meanwhile, the index file stays as it is */
        ident->partition_dir = open->partition_dir;
        rc = mailbox_sync_wait(open, err);
        mailbox_lock(open);
        limit = open->durable_mark;
        mailbox_unlock(open);
        if (rc == 0)
                rc = check_private(store, ident, limit, report, err);
        mailbox_maintain_end(open);
        mailbox_unref(&open);
        return rc;
}

/* ---- reconstruct ---- */

static int compare_entries(const void *a, const void *b)
{
        const struct manifest_entry *x = a, *y = b;

        return x->id < y->id ? -1 : x->id > y->id;
}

int segment_entry_of_file(const char *dir, const char *uniqueid, uint64_t id, struct manifest_entry *e)
{
        struct str path = STR_INIT;
        struct mlog_scan scan;
        struct mlog_record rec;
        struct stat st;
        struct err err = ERR_INIT;
        int rc = -1;

        mlog_segment_path(&path, dir, id);
        if (stat(path.data, &st) == 0) {
                struct file *file = file_create(path.data);
                struct mlog_source source = { .file = file, .size = (uint64_t)st.st_size };

                rc = mlog_scan_begin(&scan, &source, id, uniqueid, 0, 0, &err);
                if (rc == 0) {
                        *e = (struct manifest_entry){ .id = id, .valid_len = (uint64_t)st.st_size, .kind = MLOG_MAIN, .crc = scan.info.crc,
                                                      .salt = scan.info.salt };
                        for (int found; (found = mlog_scan_next(&scan, &rec, &err)) > 0;) {
                                if (found != MLOG_SCAN_RECORD)
                                        continue;
                                if (rec.h.flags & MLOG_RELATIVE) {
                                        e->kind = MLOG_ADOPTED;
                                        break;
                                }
                                if (rec.h.seq > e->seq)
                                        e->seq = rec.h.seq;
                        }
                }
                mlog_scan_deinit(&scan);
                file_unref(&file);
        }
        str_deinit(&path);
        return rc;
}

/*
 * In the order in which they were listed. What compaction wrote ends with lower sequence numbers than an older segment, when that was written to
 * since: it stood just before that one. There it counts after what was compacted earlier, whose messages it may purge, and before what
 * changes the messages that it has. (Nothing was written since? Then it may stand where its number is.)
 */
static void put_in_order(struct manifest *man)
{
        struct manifest_entry *e = man->entries;

        qsort(e, man->n, sizeof *e, compare_entries);
        for (uint32_t i = 0; i < man->n; i++) {
                struct manifest_entry moved = e[i];
                uint32_t at = 0;

                while (at < i && !(e[at].kind == MLOG_MAIN && e[at].seq > moved.seq))
                        at++;
                if (moved.kind != MLOG_MAIN || !moved.seq || at == i)
                        continue;
                moved.kind = MLOG_COMPACTED;
                memmove(e + at + 1, e + at, (i - at) * sizeof *e);
                e[at] = moved;
        }
        for (uint32_t i = 0; i < man->n; i++)
                if (e[i].kind != MLOG_COMPACTED)
                        e[i].seq = 0;
}

/*
 * The manifest is gone or damaged: all segments that are there. Nothing tells where a torn one was sealed or which were retired; the local
 * sequence numbers put states in order all the same.
 */
static int rebuild_manifest(struct mailbox *m, struct err *err)
{
        struct manifest man;
        struct dirent *e;
        DIR *d = opendir(m->dir);
        int last_main = -1, rc;

        if (!d)
                return err_errno(err, errno, "open %s", m->dir);
        manifest_init(&man, m->uniqueid);
        while ((e = readdir(d)) != NULL) {
                struct manifest_entry entry;
                unsigned long long id;
                char rest;

                if (sscanf(e->d_name, "log.%16llx%c", &id, &rest) != 1 || id == 0 || id > MLOG_SEGMENT_ID_MAX ||
                    segment_entry_of_file(m->dir, m->uniqueid, id, &entry) < 0)
                        continue;
                *manifest_add(&man, man.n) = entry;
                if (id >= man.next_id)
                        man.next_id = id + 1;
        }
        closedir(d);
        put_in_order(&man);
        for (uint32_t i = 0; i < man.n; i++)
                if (man.entries[i].kind == MLOG_MAIN)
                        last_main = (int)i;
        if (last_main < 0) {
                manifest_deinit(&man);
                return err_set(err, ERR_CORRUPT, "%s: no segment of this mailbox is readable", m->dir);
        }
        man.entries[last_main].valid_len = MLOG_OPEN_END;
        man.generation = 1u << 20;
        /* Its name is durable with that of the index, which is made anew from it. */
        rc = mailbox_guard(m, manifest_write_lazily(&man, m->dir, err), err);
        manifest_deinit(&man);
        log_event(LOG_WARN, NULL, "mailbox.manifest", "uniqueid=%s rebuilt=%d", m->uniqueid, rc == 0);
        return rc;
}

static int ensure_manifest(struct store *store, struct mailbox_ident *ident, struct err *err)
{
        struct mailbox *m;
        int rc;

        look_begin(store, ident);
        m = mailbox_alloc(store, NULL, ident);
        rc = store_mailbox_is_whole(store, m->partition_dir, m->uniqueid, err);
        if (rc == 0)
                rc = manifest_read(&m->manifest, m->dir, m->uniqueid, err);
        if (rc < 0 && (err->code == ERR_CORRUPT || (err->code == ERR_NOTFOUND && fs_exists(m->dir)))) {
                err_clear(err);
                rc = rebuild_manifest(m, err);
        }
        mailbox_free(&m);
        logstore_look_end(store_logstore(store));
        return rc;
}

/* Read the whole log again, in place. Called while maintaining. */
static int reload_from_log(struct mailbox *m, const struct mailbox_ident *ident, struct err *err)
{
        struct index_counters before, *c;
        int rc;

        for (;;) {
                if (mailbox_sync_wait(m, err) < 0)
                        return -1;
                mailbox_after(m);
                mailbox_lock(m);
                if (!m->commits.head && m->durable_mark == m->end_mark)
                        break;
                mailbox_unlock(m);
                usleep(1000);                           /* a move between its logs */
        }
        before = *index_counters(m->ix);
        mailbox_unload(m);
        rc = mailbox_load(m, ident, LOAD_REBUILD, NULL, err);
        if (rc == 0) {
                c = index_counters(m->ix);
                if (before.highestmodseq > c->highestmodseq)
                        c->highestmodseq = before.highestmodseq;
                if (before.uidnext > c->uidnext)
                        c->uidnext = before.uidnext;
                m->durable_modseq = c->highestmodseq;
                index_touch(m->ix);
                mailbox_set_view(m);
                quota_report(m);
        } else {
                m->failed = true;
                err_copy(&m->failure, err);
        }
        mailbox_unlock(m);
        return rc;
}

int mailbox_reconstruct(struct store *store, const struct mailbox_ident *asked, struct err *err)
{
        struct mailbox *m = mailbox_find_open(store, asked->uniqueid);
        struct mailbox_ident here = *asked, *ident = &here;
        int rc;

        if (!m && (ensure_manifest(store, ident, err) < 0 || mailbox_open(store, ident, &m, err) < 0))
                return -1;
        mailbox_maintain_begin(m);
        ident->partition_dir = m->partition_dir;        /* where it is, and stays for now */
        rc = reload_from_log(m, ident, err);
        if (rc == 0)
                rc = mailbox_checkpoint_inner(m, err);
        mailbox_maintain_end(m);
        mailbox_notify(m);
        mailbox_unref(&m);
        return rc;
}
