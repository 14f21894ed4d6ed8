# make crash-short: some hundred power losses, and some syncs taken out; make crash: 10,000, and each sync call taken out in turn
# (t/crash/README.md).
CRASH_B := $B/t/crash

$(CRASH_B)/record.so: t/crash/record.c t/crash/record.h
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) -std=c11 -O2 -g -pthread $(WARN) -Wno-missing-prototypes -shared -fPIC -o $@ $< -ldl

# -rdynamic: the load calls the preloaded layer's crash_note(), and call sites are told apart by their return addresses.
$(CRASH_B)/load: $(CRASH_B)/load_replica.o
$(CRASH_B)/load $(CRASH_B)/powerloss: $(CRASH_B)/%: $(CRASH_B)/%.o $B/libcyrd.a
	$(CC) $(CFLAGS) $(SANFLAGS) $(LDFLAGS) -rdynamic -o $@ $(filter %.o,$^) $B/libcyrd.a $(LIBS)

$(CRASH_B)/powerloss: $(CRASH_B)/model.o $(CRASH_B)/disk.o $(CRASH_B)/sites.o

crash-build: $(CRASH_B)/record.so $(CRASH_B)/load $(CRASH_B)/powerloss
crash-short: crash-build
	@t/crash/run-powerloss $(CRASH_B) 300 1 some
crash: crash-build
	@t/crash/run-powerloss $(CRASH_B) 10000 1 sites
.PHONY: crash-build crash-short crash
