# make bench: cyrd, Cyrus and Dovecot under the same load (t/bench/run, its options in BENCH); needs root. make bench BENCH=--quick: in small.
BENCH ?=
$B/t/bench/bench: t/bench/bench.c
	@mkdir -p $(@D)
	$(CC) -std=c11 -D_GNU_SOURCE -O2 -g -pthread $(WARN) -o $@ $<
bench-build: all $B/t/bench/bench
bench:
	@etc/install-deps --bench
	@$(MAKE) --no-print-directory bench-build
	@B=$B t/bench/run $(BENCH)
.PHONY: bench-build
