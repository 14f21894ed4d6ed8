# t/hostile: what is preloaded into the daemon.
$B/t/hostile/clock.so: t/hostile/clock.c
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) -std=c11 -O2 -g $(WARN) -Wno-missing-prototypes -shared -fPIC -o $@ $< -ldl
hostile-build: all $B/t/hostile/clock.so
.PHONY: hostile-build
$B/t/hostile/tls_client: t/hostile/tls_client.c
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) $(WARN) -o $@ $< -lgnutls
hostile-build: $B/t/hostile/tls_client
