/* cyr_df - the room in the partitions. -m: in those for metadata, of which we have none of our own; those of the configuration are shown. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "server/tools/tool.h"
#include "util/fs.h"

int tool_cyr_df_main(int argc, char **argv)
{
        const char *config = NULL, *prefix = "partition-", *name, *dir;
        struct fs_space s;
        struct tool t;
        size_t pos = 0;
        int opt;

        while ((opt = getopt(argc, argv, "C:m")) != -1) {
                if (opt == 'C') {
                        config = optarg;
                } else if (opt == 'm') {
                        prefix = "metapartition-";
                } else {
                        fprintf(stderr, "usage: cyr_df [-C <alt_config>] [-m]\n");
                        return TOOL_USAGE;
                }
        }
        if (tool_open(&t, "cyr_df", config, TOOL_CONF) < 0)
                return TOOL_FAILED;
        printf("%-12s %12s %12s %12s %3s %s\n", "Partition", "1k-blocks", "Used", "Available", "Use%", "Location");
        while (conf_next(t.conf, prefix, &pos, &name, &dir))
                if (fs_space(dir, &s, NULL) == 0)
                        printf("%-12s %12" PRIu64 " %12" PRIu64 " %12" PRIu64 " %3u%% %s\n", name + strlen(prefix), s.kib, s.used_kib,
                               s.available_kib, s.percent, dir);
        tool_close(&t);
        return TOOL_OK;
}
