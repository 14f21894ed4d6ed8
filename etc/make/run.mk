# make run, make install, make man.

deps:
	@etc/install-deps

# A second make: what was just installed decides how the rest is built.
RUNDIR ?= run
run: deps
	@$(MAKE) --no-print-directory -j$$(nproc) all
	@exec $B/cyrd --demo $(RUNDIR) $(if $(PORTBASE),--portbase $(PORTBASE))

man: $B/cyrd $B/cyrctl
	$B/cyrd --manual-options > man/imapd.conf.5.tmp && mv man/imapd.conf.5.tmp man/imapd.conf.5
	$B/cyrd --manual-programs > man/cyrus-programs.8.tmp && mv man/cyrus-programs.8.tmp man/cyrus-programs.8
	$B/cyrctl --manual-commands | sed -e '/^@COMMANDS@$$/{r /dev/stdin' -e 'd;}' man/cyrctl.8.in > man/cyrctl.8.tmp && mv man/cyrctl.8.tmp man/cyrctl.8

# Everything finds everything else relative to its own executable: the tree runs in place under DESTDIR.
# NAMES are the programs of Cyrus that the binary answers to.
SBINDIR  := $(DESTDIR)$(PREFIX)/sbin
CYRUSBIN := $(DESTDIR)$(PREFIX)/lib/cyrus/bin
DATADIR  := $(DESTDIR)$(PREFIX)/share
MANDIR   := $(DATADIR)/man
DOCDIR   := $(DATADIR)/doc/cyrd
install: all
	install -d $(SBINDIR) $(CYRUSBIN) $(MANDIR)/man5 $(MANDIR)/man7 $(MANDIR)/man8 $(DOCDIR)/examples \
		$(DATADIR)/bash-completion/completions $(DATADIR)/zsh/site-functions
	install -m 755 $B/cyrd $(SBINDIR)/cyrd
	$(if $(wildcard server/ctl/main.c),install -m 755 $B/cyrctl $(SBINDIR)/cyrctl)
	ln -sf cyrd $(SBINDIR)/master
	ln -sf ../../../sbin/cyrd $(CYRUSBIN)/master
	set -e; for n in $$($B/cyrd --list-programs); do \
		ln -sf ../../../sbin/cyrd $(CYRUSBIN)/$$n; ln -sf cyrd $(SBINDIR)/$$n; done
	$B/cyrctl --completion bash >$(DATADIR)/bash-completion/completions/cyrctl
	$B/cyrctl --completion zsh >$(DATADIR)/zsh/site-functions/_cyrctl
	install -m 644 $(wildcard man/*.5) $(MANDIR)/man5
	install -m 644 $(wildcard man/*.7) $(MANDIR)/man7
	install -m 644 $(wildcard man/*.8) $(MANDIR)/man8
	set -e; for n in $$($B/cyrd --list-programs); do \
		[ -e man/$$n.8 ] || echo ".so man8/cyrus-programs.8" >$(MANDIR)/man8/$$n.8; done
	install -m 644 etc/imapd.conf etc/cyrus.conf etc/cyrd.service etc/cyrd.socket etc/cyrd.init etc/samples/*.conf $(DOCDIR)/examples

.PHONY: deps man
