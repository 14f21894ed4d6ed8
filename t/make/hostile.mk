# t/hostile: what is preloaded into the daemon.
$B/t/hostile/clock.so: t/hostile/clock.c
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) -std=c11 -O2 -g $(WARN) -Wno-missing-prototypes -shared -fPIC -o $@ $< -ldl
hostile-build: all $B/t/hostile/clock.so
.PHONY: hostile-build
