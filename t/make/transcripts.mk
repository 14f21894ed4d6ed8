# make transcripts: every conversation in t/imap, t/lmtp … against a server of its own (t/transcript). TRANSCRIPTS=t/imap/list.t runs one;
# with SAN=… the sanitizers' build is tested.
TRANSCRIPTS ?= $(sort $(wildcard t/imap/*.t t/lmtp/*.t t/pop3/*.t t/sync/*.t t/mupdate/*.t))
TRANSCRIPT_JOBS ?= 2
transcripts: all $B/t/lib/slow.so
	@BUILD=$B prove -j$(TRANSCRIPT_JOBS) --merge --timer -e 'perl t/transcript' $(TRANSCRIPTS)

# preloaded into the daemon where a conversation says "slow"
$B/t/lib/slow.so: t/lib/slow.c
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) -std=c11 -O2 -g $(WARN) -Wno-missing-prototypes -shared -fPIC -o $@ $< -ldl
