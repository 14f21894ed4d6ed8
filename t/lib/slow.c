/*
 * slow - preloaded into the daemon (LD_PRELOAD): its disk takes its time, so that commands last as long as a test wants them to.
 *   SLOW_CTL  a file with a number: how many milliseconds fdatasync() and fsync() take on top; read at each call; missing: 0
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static void wait_for_it(void)
{
        const char *path = getenv("SLOW_CTL");
        int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
        char text[16] = "";
        long ms = 0;

        if (fd >= 0) {
                if (read(fd, text, sizeof text - 1) > 0)
                        ms = strtol(text, NULL, 10);
                close(fd);
        }
        if (ms > 0)
                nanosleep(&(struct timespec){ ms / 1000, ms % 1000 * 1000000 }, NULL);
}

int fdatasync(int fd)
{
        wait_for_it();
        return ((int (*)(int))dlsym(RTLD_NEXT, "fdatasync"))(fd);
}

int fsync(int fd)
{
        wait_for_it();
        return ((int (*)(int))dlsym(RTLD_NEXT, "fsync"))(fd);
}
