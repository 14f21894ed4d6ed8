# Cyrd. One GNU makefile, no recursion. `make help` lists the targets.
#
#   make                    build cyrd, cyrctl and master into build/
#   make run                install what is missing, build, start the demo in the foreground (PORTBASE=n moves its ports)
#   make check              install what is missing, build, run every test in its short form
#   make accept             the acceptance tests in full (hours)
#   make unit transcripts race tsa fuzz crash interop      parts of make check
#   make bench              measure, beside Cyrus and Dovecot (as root; installs them; a quarter of an hour)
#   make install DESTDIR= PREFIX=/usr/local
#   SAN=address,undefined or SAN=thread with any of them: a build with sanitizers, in a directory of its own

comma    := ,
CC       ?= gcc
CLANG    ?= clang
PREFIX   ?= /usr/local
B        := build$(if $(SAN),-$(subst $(comma),-,$(SAN)))
CPPFLAGS += -D_GNU_SOURCE -I.
CFLAGS   ?= $(if $(SAN),-O1,-O2) -g
CFLAGS   += -std=c11 -pthread -fno-omit-frame-pointer -fno-strict-aliasing
WARN     := -Wall -Wextra -Wshadow -Wmissing-prototypes -Wstrict-prototypes -Wvla
SANFLAGS := $(if $(SAN),-fsanitize=$(SAN))
LDFLAGS  += -pthread
LIBS     := -lgnutls -lsasl2 -ldb-5.3 -lnettle -ljansson -lutf8proc -lz -lcrypt -lmicrohttpd -lm

# The program is assembled in server/main.c; everything else is one archive, so a test links just what it uses.
MAINS    := server/main.c server/ctl/main.c
LIBSRC   := $(sort $(filter-out $(MAINS),$(wildcard util/*.c store/*.c server/*.c server/*/*.c murder/*.c replication/*.c backup/*.c)))
LIBOBJ   := $(patsubst %.c,$B/%.o,$(LIBSRC))
UNITSRC  := $(sort $(wildcard t/util/*_test.c t/store/*_test.c t/server/*_test.c t/replication/*_test.c))
UNIT     := $(patsubst %.c,$B/%,$(UNITSRC))
RACESRC  := $(sort $(wildcard t/race/*.c))
RACE     := $(patsubst %.c,$B/%,$(RACESRC))
PROGRAMS := $(patsubst %,$B/%,$(if $(wildcard server/main.c),cyrd) $(if $(wildcard server/ctl/main.c),cyrctl))

all: $(PROGRAMS) $(if $(wildcard server/main.c),$B/master)

$B/libcyrd.a: $(LIBOBJ)
	@rm -f $@
	ar rcs $@ $^

$B/cyrd: $B/server/main.o $B/libcyrd.a
	$(CC) $(CFLAGS) $(SANFLAGS) $(LDFLAGS) -o $@ $^ $(LIBS)

$B/master: $B/cyrd
	ln -sf cyrd $@

$B/cyrctl: $B/server/ctl/main.o $B/libcyrd.a
	$(CC) $(CFLAGS) $(SANFLAGS) $(LDFLAGS) -o $@ $^ $(LIBS)

$(UNIT): $B/%: $B/%.o $B/libcyrd.a
	$(CC) $(CFLAGS) $(SANFLAGS) $(LDFLAGS) -o $@ $^ $(LIBS) -lcriterion

$(RACE): $B/%: $B/%.o $B/libcyrd.a
	$(CC) $(CFLAGS) $(SANFLAGS) $(LDFLAGS) -o $@ $^ $(LIBS)

$B/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) $(WARN) $(SANFLAGS) -MMD -MP -c -o $@ $<

unit: $(UNIT)
	@set -e; for t in $(UNIT); do echo "== $$t"; $$t --quiet; done

race: $(RACE)
	@set -e; for t in $(RACE); do echo "== $$t"; $$t; done

# clang's thread safety analysis: locks, their order, what they guard.
TSASRC := $(LIBSRC) $(wildcard $(MAINS))
tsa:
	$(CLANG) $(CPPFLAGS) -std=c11 -fsyntax-only $(WARN) -Wthread-safety -Wthread-safety-beta -Werror $(TSASRC)

help:
	@sed -n '3,/^$$/s/^#//p' Makefile

clean:
	rm -rf build build-*

-include $(wildcard t/make/*.mk etc/make/*.mk)
-include $(shell find $B -path $B/peers -prune -o -name '*.d' -type f -print 2>/dev/null)
.PHONY: all unit race tsa help clean run check accept install transcripts fuzz crash interop bench
.SECONDARY:
