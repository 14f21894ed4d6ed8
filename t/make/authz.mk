# t/authz: who may do what. The daemon's command tables as text, for the generator.
$B/t/authz/tables: $B/t/authz/tables.o $B/libcyrd.a
	$(CC) $(CFLAGS) $(SANFLAGS) $(LDFLAGS) -o $@ $^ $(LIBS)
authz-build: all $B/t/authz/tables
.PHONY: authz-build
