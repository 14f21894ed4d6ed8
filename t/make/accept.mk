# What the programs in t/load, t/crash and t/hostile need besides the daemon.
$B/t/load/c10k: t/load/c10k.c
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) $(WARN) $(SANFLAGS) $(LDFLAGS) -o $@ $< -lgnutls

# Preloaded into the daemon; never with sanitizers, whose runtime wants to be first.
$B/t/crash/faults.so: t/crash/faults.c
	@mkdir -p $(@D)
	$(CC) -std=c11 -D_GNU_SOURCE -O2 -g -fPIC -shared $(WARN) -o $@ $< -ldl -pthread

load-build: all $B/t/load/c10k
faults-build: all $B/t/crash/faults.so
.PHONY: load-build faults-build
