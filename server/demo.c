/* demo - see demo.h */
#include "server/demo.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <sasl/sasl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "server/tls.h"
#include "util/array.h"
#include "util/fs.h"
#include "util/hash.h"
#include "util/must.h"
#include "util/str.h"

#define DEMO_USER "cyrus"
#define ELSEWHERE "/var/lib/cyrd-demo-"

static const char *const accounts[] = { "admin", "alice", "bob" };

#define PATH_ROOM (PATH_MAX + 64)

struct ports { int imap, imaps, lmtp; };

static struct ports demo_ports(int portbase)
{
        if (portbase < 0)
                return (struct ports){ 1143, 1993, 2424 };
        return (struct ports){ portbase + 143, portbase + 993, portbase + 24 };
}

/* ---- the files, made as the user that the daemon will be -------------------------------------------------------------------- */

static int write_conf(const char *dir, struct err *err)
{
        struct str s = STR_INIT;
        char path[PATH_ROOM];
        int ret;

        str_printf(&s,
                   "# Made by cyrd --demo. Written once: changes stay. imapd.conf(5) describes the options.\n"
                   "configdirectory: %s/conf\n"
                   "partition-default: %s/spool\n"
                   "defaultpartition: default\n"
                   "servername: localhost\n"
                   "admins: admin\n"
                   "\n"
                   "# Passwords are in a database of this directory alone. Without TLS nobody can log in.\n"
                   "sasl_pwcheck_method: auxprop\n"
                   "sasl_auxprop_plugin: sasldb\n"
                   "sasl_sasldb_path: %s/conf/sasldb2\n"
                   "sasl_mech_list: PLAIN LOGIN SCRAM-SHA-1 SCRAM-SHA-256\n"
                   "tls_server_cert: %s/tls/cert.pem\n"
                   "tls_server_key: %s/tls/key.pem\n"
                   "\n"
                   "# A mailbox is made when its user logs in or gets mail for the first time.\n"
                   "autocreate_quota: 0\n"
                   "autocreate_post: yes\n"
                   "autocreate_inbox_folders: Drafts|Sent|Trash|Junk|Archive\n"
                   "autocreate_subscribe_folders: Drafts|Sent|Trash|Junk|Archive\n"
                   "xlist-drafts: Drafts\nxlist-sent: Sent\nxlist-trash: Trash\nxlist-junk: Junk\nxlist-archive: Archive\n"
                   "\n"
                   "master_bind_errors_fatal: yes\n", dir, dir, dir, dir, dir);
        snprintf(path, sizeof path, "%s/imapd.conf", dir);
        ret = fs_exists(path) ? 0 : fs_replace(path, s.data, s.len, 0644, err);
        str_deinit(&s);
        return ret;
}

/* Written at each start: PORTBASE may be another. */
static int write_masterconf(const char *dir, struct ports p, struct err *err)
{
        struct str s = STR_INIT;
        char path[PATH_ROOM];
        int ret;

        str_printf(&s,
                   "# Made by cyrd --demo at each start. cyrus.conf(5) describes it.\n"
                   "START {\n"
                   "  recover   cmd=\"ctl_cyrusdb -r\"\n"
                   "}\n"
                   "SERVICES {\n"
                   "  imap      cmd=\"imapd\" listen=\"127.0.0.1:%d\"\n"
                   "  imaps     cmd=\"imapd -s\" listen=\"127.0.0.1:%d\"\n"
                   "  lmtp      cmd=\"lmtpd -a\" listen=\"127.0.0.1:%d\"\n"
                   "  lmtpunix  cmd=\"lmtpd\" listen=\"%s/conf/socket/lmtp\"\n"
                   "}\n"
                   "EVENTS {\n"
                   "  checkpoint  cmd=\"ctl_cyrusdb -c\" period=30\n"
                   "}\n", p.imap, p.imaps, p.lmtp, dir);
        snprintf(path, sizeof path, "%s/cyrus.conf", dir);
        ret = fs_replace(path, s.data, s.len, 0644, err);
        str_deinit(&s);
        return ret;
}

static int make_certificate(const char *dir, struct err *err)
{
        char cert[PATH_ROOM], key[PATH_ROOM];

        snprintf(cert, sizeof cert, "%s/tls/cert.pem", dir);
        snprintf(key, sizeof key, "%s/tls/key.pem", dir);
        if (fs_exists(cert) && fs_exists(key))
                return 0;
        return tls_make_self_signed("localhost", cert, key, err);
}

static int sasl_option(void *context, const char *plugin, const char *option, const char **result, unsigned *len)
{
        (void)plugin;
        if (strcmp(option, "sasldb_path") == 0)
                *result = context;
        else if (strcmp(option, "auxprop_plugin") == 0)
                *result = "sasldb";
        else if (strcmp(option, "mech_list") == 0)
                *result = "PLAIN";
        else
                return SASL_FAIL;
        if (len)
                *len = (unsigned)strlen(*result);
        return SASL_OK;
}

static int sasl_quiet(void *context, int level, const char *message)
{
        (void)context;
        (void)level;
        (void)message;
        return SASL_OK;
}

/* "name password" lines into sasldb, through libsasl itself: no saslpasswd2 is needed. */
static int set_passwords(const char *dir, char passwords[][20], struct err *err)
{
        char db[PATH_ROOM];
        sasl_callback_t callbacks[] = { { SASL_CB_GETOPT, (int (*)(void))(void (*)(void))sasl_option, db },
                                        { SASL_CB_LOG, (int (*)(void))(void (*)(void))sasl_quiet, NULL }, { SASL_CB_LIST_END, NULL, NULL } };
        sasl_conn_t *conn = NULL;
        int ret = 0;

        snprintf(db, sizeof db, "%s/conf/sasldb2", dir);
        if (sasl_server_init(callbacks, "cyrd") != SASL_OK ||
            sasl_server_new("imap", "localhost", "localhost", NULL, NULL, NULL, 0, &conn) != SASL_OK)
                return err_set(err, ERR_INTERNAL, "libsasl cannot be started");
        for (size_t i = 0; i < ARRAY_LEN(accounts) && ret == 0; i++)
                if (sasl_setpass(conn, accounts[i], passwords[i], (unsigned)strlen(passwords[i]), NULL, 0, SASL_SET_CREATE) != SASL_OK)
                        ret = err_set(err, ERR_INTERNAL, "%s: %s", db, sasl_errdetail(conn));
        sasl_dispose(&conn);
        sasl_done();
        return ret;
}

static int make_accounts(const char *dir, struct err *err)
{
        static const char letters[] = "abcdefghijkmnpqrstuvwxyz23456789";       /* 32, without those that look alike */
        char passwords[ARRAY_LEN(accounts)][20], path[PATH_ROOM];
        struct str s = STR_INIT;
        int ret;

        snprintf(path, sizeof path, "%s/passwords", dir);
        if (fs_exists(path))
                return 0;
        for (size_t i = 0; i < ARRAY_LEN(accounts); i++) {
                unsigned char random[12];

                random_bytes(random, sizeof random);
                for (size_t k = 0; k < sizeof random; k++)
                        passwords[i][k] = letters[random[k] % 32];
                passwords[i][sizeof random] = '\0';
                str_printf(&s, "%s %s\n", accounts[i], passwords[i]);
        }
        ret = set_passwords(dir, passwords, err);
        if (ret == 0)
                ret = fs_replace(path, s.data, s.len, 0600, err);
        str_deinit(&s);
        return ret;
}

static int fill_directory(const char *dir, struct ports ports, struct err *err)
{
        static const char *const below[] = { "conf", "spool", "tls", "conf/log", "conf/msg", "conf/socket" };
        char path[PATH_ROOM];

        for (size_t i = 0; i < ARRAY_LEN(below); i++) {
                snprintf(path, sizeof path, "%s/%s", dir, below[i]);
                if (fs_mkdir_p(path, 0750, err) < 0)
                        return -1;
        }
        return write_conf(dir, err) < 0 || write_masterconf(dir, ports, err) < 0 || make_certificate(dir, err) < 0 ||
               make_accounts(dir, err) < 0 ? -1 : 0;
}

/* ---- users and places -------------------------------------------------------------------------------------------------------- */

static int run_quietly(const char *const *argv)
{
        int status;
        pid_t pid = fork();

        if (pid == 0) {
                execvp(argv[0], (char *const *)argv);
                _exit(127);
        }
        return pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int make_user(struct err *err)
{
        static const char *const argv[] = { "useradd", "--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent",
                                            "--shell", "/usr/sbin/nologin", DEMO_USER, NULL };

        if (getpwnam(DEMO_USER))
                return 0;
        if (run_quietly(argv) != 0 || !getpwnam(DEMO_USER))
                return err_set(err, ERR_CONFIG, "the user " DEMO_USER " does not exist and useradd could not make it");
        printf("made the system user " DEMO_USER "\n");
        return 0;
}

static void become(const struct passwd *pw)
{
        if (setgroups(1, &pw->pw_gid) < 0 || setgid(pw->pw_gid) < 0 || setuid(pw->pw_uid) < 0)
                _exit(1);
}

/* Can that user walk to `dir`? Asked in a child that is that user. */
static bool reaches(const struct passwd *pw, const char *dir)
{
        int status;
        pid_t pid = fork();

        if (pid == 0) {
                become(pw);
                _exit(access(dir, X_OK) == 0 ? 0 : 1);
        }
        return pid > 0 && waitpid(pid, &status, 0) == pid && status == 0;
}

/* Root's clone may lie where the daemon's user cannot go: then `dir` becomes a link to a place of its own. */
static int move_elsewhere(const char *dir, const struct passwd *pw, char *place, size_t size, struct err *err)
{
        uint32_t sum = crc32c(0, dir, strlen(dir));
        struct stat st;

        snprintf(place, size, ELSEWHERE "%08x", sum);
        if (fs_mkdir_p(place, 0750, err) < 0)
                return -1;
        if (lstat(dir, &st) == 0 && S_ISDIR(st.st_mode) && rmdir(dir) < 0)
                return err_errno(err, errno, "%s is in a place that user %s cannot reach, and cannot be replaced by a link to %s", dir,
                                 pw->pw_name, place);
        if (lstat(dir, &st) < 0 && symlink(place, dir) < 0)
                return err_errno(err, errno, "%s", dir);
        printf("user %s cannot reach %s: its files are in %s\n", pw->pw_name, dir, place);
        return 0;
}

/* Make the directory, belonging to the user the daemon will be. `real` gets its path, free of links. */
static int make_directory(const char *dir, const struct passwd *pw, char real[PATH_MAX], struct err *err)
{
        char place[PATH_MAX], *path;
        struct stat st;

        if (lstat(dir, &st) < 0 && fs_mkdir_p(dir, 0750, err) < 0)
                return -1;
        path = realpath(dir, NULL);
        if (!path)
                return err_errno(err, errno, "%s", dir);
        snprintf(real, PATH_MAX, "%s", path);
        free(path);
        if (!pw)
                return 0;
        if (chown(real, pw->pw_uid, pw->pw_gid) < 0)
                return err_errno(err, errno, "%s", real);
        if (reaches(pw, real))
                return 0;
        if (move_elsewhere(real, pw, place, sizeof place, err) < 0)
                return -1;
        snprintf(real, PATH_MAX, "%s", place);
        return chown(real, pw->pw_uid, pw->pw_gid) < 0 ? err_errno(err, errno, "%s", real) : 0;
}

/* Fill the directory in a child: libsasl is started there with options of its own, and as root it is the daemon's user. */
static int fill_in_child(const char *dir, const struct passwd *pw, struct ports ports, struct err *err)
{
        int fds[2], status;
        ssize_t n;
        pid_t pid;

        if (pipe2(fds, O_CLOEXEC) < 0)
                return err_errno(err, errno, "pipe");
        fflush(stdout);
        pid = fork();
        if (pid == 0) {
                struct err why = ERR_INIT;

                if (pw)
                        become(pw);
                if (fill_directory(dir, ports, &why) == 0)
                        _exit(0);
                n = write(fds[1], why.text, strlen(why.text));
                _exit(n < 0 ? 2 : 1);
        }
        close(fds[1]);
        err_set(err, ERR_IO, "cannot fill %s", dir);
        n = read(fds[0], err->text, sizeof err->text - 1);
        if (n > 0)
                err->text[n] = '\0';
        close(fds[0]);
        return pid > 0 && waitpid(pid, &status, 0) == pid && status == 0 ? 0 : -1;
}

int demo_prepare(struct daemon_options *o, struct err *err)
{
        static char dir[PATH_MAX], conf[PATH_ROOM], masterconf[PATH_ROOM];      /* the options point to them */
        const struct passwd *pw = NULL;

        if (geteuid() == 0) {
                if (make_user(err) < 0)
                        return -1;
                pw = getpwnam(DEMO_USER);
        }
        if (make_directory(o->demo_dir, pw, dir, err) < 0 || fill_in_child(dir, pw, demo_ports(o->portbase), err) < 0)
                return -1;
        snprintf(conf, sizeof conf, "%s/imapd.conf", dir);
        snprintf(masterconf, sizeof masterconf, "%s/cyrus.conf", dir);
        o->demo_dir = dir;
        o->conf_path = conf;
        o->masterconf_path = masterconf;
        return 0;
}

/* ---- saying so ---------------------------------------------------------------------------------------------------------------- */

static void find_password(const char *dir, const char *account, char out[32])
{
        char path[PATH_ROOM], line[128], name[64];
        FILE *f;

        snprintf(path, sizeof path, "%s/passwords", dir);
        strcpy(out, "?");
        f = fopen(path, "r");
        while (f && fgets(line, sizeof line, f))
                if (sscanf(line, "%63s %31s", name, out) == 2 && strcmp(name, account) == 0)
                        break;
        if (f)
                fclose(f);
}

void demo_say_ready(const char *dir, int portbase)
{
        struct ports p = demo_ports(portbase);
        char password[32];

        printf("\ncyrd is ready. Accounts:");
        for (size_t i = 0; i < ARRAY_LEN(accounts); i++) {
                find_password(dir, accounts[i], password);
                printf(" %s/%s", accounts[i], password);
        }
        find_password(dir, "alice", password);
        printf("\n(name/password; they are in %s/passwords)\n\n"
               "  IMAP   127.0.0.1:%d   (STARTTLS)\n"
               "  IMAPS  127.0.0.1:%d\n"
               "  LMTP   127.0.0.1:%d   and %s/conf/socket/lmtp\n\n"
               "  exec 3<>/dev/tcp/127.0.0.1/%d; printf '%%s\\r\\n' 'LHLO me' 'MAIL FROM:<>' 'RCPT TO:<alice>' DATA \\\n"
               "    'Subject: hello' '' world . QUIT >&3; cat <&3\n"
               "  curl -k -u alice:%s imaps://127.0.0.1:%d/INBOX -X 'STATUS INBOX (MESSAGES)'\n"
               "  openssl s_client -quiet -crlf -connect 127.0.0.1:%d\n\n"
               "Control-C ends it.\n", dir, p.imap, p.imaps, p.lmtp, dir, p.lmtp, password, p.imaps, p.imaps);
        fflush(stdout);
}
