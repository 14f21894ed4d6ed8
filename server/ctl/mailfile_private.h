/* mailfile_private - shared by mailfile.c (messages, trees), maildir.c and mbox.c. */
#ifndef SERVER_CTL_MAILFILE_PRIVATE_H
#define SERVER_CTL_MAILFILE_PRIVATE_H

#include "server/ctl/mailfile.h"

#define MAILFILE_BYTES_MAX (160u << 20)         /* of one message */

struct mailreader {
        int (*next)(struct mailreader *r, struct mailfile *m, struct err *err);
        void (*close)(struct mailreader *r);
};
struct mailwriter {
        bool (*has)(const struct mailwriter *w, uint32_t uid);
        int (*add)(struct mailwriter *w, uint32_t uid, const struct mailfile *m, struct err *err);
        int (*finish)(struct mailwriter *w, struct err *err);
        void (*close)(struct mailwriter *w);
        unsigned flags_lost;
};

/* is_top: the path is the one that the administrator named, which may be a symbolic link. */
int maildir_reader(const char *path, bool is_top, struct mailreader **reader_r, struct err *err);
int maildir_writer(const char *path, const char *name, uint32_t uidvalidity, struct mailwriter **writer_r, struct err *err);
bool maildir_is(const char *path);
uint64_t maildir_count(const char *path);
/* "Lists/a.b" ↔ ".Lists.a&AC4-b": Maildir++ separates by dots and writes names in modified UTF-7. */
void maildir_folder_name(const char *name, struct str *out);
int maildir_folder_parse(const char *directory, struct str *out, struct err *err);

/* Beside the mbox file of a folder the directory with those of its children is called like it, and this. */
#define MBOX_CHILDREN ".sbd"

/* A part of a folder's name as one of a path and back: only its first octet, if it is a dot or '&', is written in modified UTF-7. */
void mbox_part_name(struct span part, struct str *out);
void mbox_part_parse(struct span file, struct str *out);
int mbox_reader(const char *path, bool is_top, struct mailreader **reader_r, struct err *err);
int mbox_writer(const char *path, const char *name, struct mailwriter **writer_r, struct err *err);
bool mbox_is(const char *path);
uint64_t mbox_count(const char *path);          /* about how many messages */

/*
 * Where files are written, as a descriptor: the directory that the administrator named, which may be a symbolic link, and one in it, which may
 * not. Both are made when they are not there (0700). -1 with err. close_dir: `dir` is closed, whatever comes of it.
 */
int mailfile_make_top(const char *path, struct err *err);
int mailfile_make_below(int dir, const char *name, bool close_dir, struct err *err);

/* To CRLF and back, as mailfile.h says. */
void mailfile_to_crlf(struct str *octets);
void mailfile_to_lf(struct span octets, struct str *out);

#endif
