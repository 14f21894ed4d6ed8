/*
 * mailfile - mail as other programs keep it: Maildir (with Maildir++ folders, or folders as directories) and mbox, read and written.
 * Everything is done with the rights of whoever runs cyrctl.
 *
 * Line ends: a Maildir or mbox has LF, a mail store CRLF. A file without any CRLF is converted; one with some is taken octet for octet. Written
 * is LF for CRLF, unless the message has an LF without CR: then octet for octet. So what came from such files goes back as it was.
 */
#ifndef SERVER_CTL_MAILFILE_H
#define SERVER_CTL_MAILFILE_H

#include <stdbool.h>
#include <stdint.h>

#include "util/arena.h"
#include "util/err.h"
#include "util/str.h"

#define MAILFILE_FLAGS_MAX 64

struct mailfile {                               /* a message on its way; reused for the next one */
        struct str octets;
        int64_t date;                           /* Unix seconds; INT64_MIN: not known */
        const char *flags[MAILFILE_FLAGS_MAX];  /* "\Seen", "$Forwarded", keywords; in `arena` */
        unsigned flags_n;
        const char *where;                      /* file, or file and message number, for complaints; in `arena` */
        struct arena arena;
};
void mailfile_init(struct mailfile *m);
void mailfile_deinit(struct mailfile *m);
void mailfile_clear(struct mailfile *m);
void mailfile_flag(struct mailfile *m, const char *flag, size_t len);

enum mailfolder_kind { MAILFOLDER_MAILDIR, MAILFOLDER_MBOX };
struct mailfolder {
        enum mailfolder_kind kind;
        char *path;
        char *name;                             /* UTF-8, parts separated by '/', "" for the top */
        uint64_t messages;                      /* mbox: about so many */
};
struct mailtree {
        struct mailfolder *v;
        size_t n, cap;
};
/*
 * What mail is below `path`: a Maildir with its folders (".Sent", ".Lists.c": Maildir++), a directory of such and of mbox files ("INBOX":
 * the top; "Lists", and those of its children in "Lists.sbd"), or one mbox file. Below `path` symbolic links are not followed: whose mail it is may have made them.
 * ERR_NOTFOUND: no mail there; ERR_IO.
 */
int mailtree_scan(const char *path, struct mailtree *tree_r, struct err *err);
void mailtree_deinit(struct mailtree *tree);

/* Read the messages of a folder one by one: 1, 0 at the end, -1 (the reader goes on behind it with the next call; ERR_IO, ERR_LIMIT). */
struct mailreader;
int mailreader_open(const struct mailfolder *folder, struct mailreader **reader_r, struct err *err);
int mailreader_next(struct mailreader *reader, struct mailfile *message, struct err *err);
void mailreader_close(struct mailreader **reader);

/*
 * Write a folder. Maildir: `path` is the top; files are called by uidvalidity and UID, so that what is there from a run that was cut short is
 * not written again (mailwriter_has()). mbox: the file is written aside and renamed by mailwriter_finish().
 */
struct mailwriter;
int mailwriter_open(enum mailfolder_kind kind, const char *path, const char *name, uint32_t uidvalidity, struct mailwriter **writer_r,
                    struct err *err);
bool mailwriter_has(const struct mailwriter *writer, uint32_t uid);
int mailwriter_add(struct mailwriter *writer, uint32_t uid, const struct mailfile *message, struct err *err);
/* What was written is on disk when this returns 0. */
int mailwriter_finish(struct mailwriter *writer, struct err *err);
void mailwriter_close(struct mailwriter **writer);      /* without finish: what was written aside goes */
/* Keywords that found no letter in a Maildir (there are 26). */
unsigned mailwriter_flags_lost(const struct mailwriter *writer);

#endif
