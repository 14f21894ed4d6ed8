# make interop: real clients and a real Postfix against the daemon (t/interop/README.md), in full; interop-short: what make check runs.
# make interop INTEROP=mutt: those whose name has that word.
INTEROP ?=
INTEROP_T = $(if $(INTEROP),$(wildcard t/interop/*$(INTEROP)*.t),$(sort $(wildcard t/interop/*.t)))
interop: all
	@FULL=1 BUILD=$B t/interop/run $(INTEROP_T)
interop-short: all
	@BUILD=$B t/interop/run $(INTEROP_T)
.PHONY: interop interop-short
