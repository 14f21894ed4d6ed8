# make fuzz FUZZ_SECONDS=60: every t/fuzz/X_fuzz.c is a libFuzzer target (LLVMFuzzerTestOneInput) over the library sources, built
# by clang with address and undefined sanitizers into build-fuzz/, and run for FUZZ_SECONDS from the seeds in t/fuzz/corpus/X/.
# make fuzz FUZZ=mime runs one. What is found stays in build-fuzz/findings/X/; a seed for it belongs into t/fuzz/corpus/X/.
FUZZ_SECONDS ?= 60
FUZZ_RSS_MB  ?= 1500
FUZZ_B       := build-fuzz
FUZZ_ALL     := $(patsubst t/fuzz/%_fuzz.c,%,$(sort $(wildcard t/fuzz/*_fuzz.c)))
FUZZ         ?= $(FUZZ_ALL)
FUZZ_SAN     := -fsanitize=address,undefined -fno-sanitize-recover=undefined
FUZZ_CFLAGS  := -O1 -g -std=c11 -pthread -fno-omit-frame-pointer -fno-strict-aliasing
FUZZ_LIBOBJ  := $(patsubst %.c,$(FUZZ_B)/%.o,$(LIBSRC))

$(FUZZ_B)/%.o: %.c
	@mkdir -p $(@D)
	@$(CLANG) $(CPPFLAGS) $(FUZZ_CFLAGS) $(FUZZ_SAN) -fsanitize=fuzzer-no-link -MMD -MP -c -o $@ $<

$(FUZZ_B)/libcyrd.a: $(FUZZ_LIBOBJ)
	@rm -f $@
	@ar rcs $@ $^

$(FUZZ_B)/%_fuzz: t/fuzz/%_fuzz.c $(FUZZ_B)/libcyrd.a
	@$(CLANG) $(CPPFLAGS) $(FUZZ_CFLAGS) $(FUZZ_SAN) -fsanitize=fuzzer -o $@ $< $(FUZZ_B)/libcyrd.a $(LIBS)

fuzz-build: $(patsubst %,$(FUZZ_B)/%_fuzz,$(FUZZ))

# The new inputs of a run stay in build-fuzz/, so that the next one goes on from there. Leaks are looked for at the end of each input.
fuzz: fuzz-build
	@set -e; for t in $(FUZZ); do \
		echo "== fuzz $$t: $(FUZZ_SECONDS) s"; \
		mkdir -p $(FUZZ_B)/corpus/$$t $(FUZZ_B)/findings/$$t; seeds=; \
		if [ -d t/fuzz/corpus/$$t ]; then seeds=t/fuzz/corpus/$$t; fi; \
		dict=; if [ -f t/fuzz/$$t.dict ]; then dict=-dict=t/fuzz/$$t.dict; fi; \
		$(FUZZ_B)/$${t}_fuzz -max_total_time=$(FUZZ_SECONDS) -rss_limit_mb=$(FUZZ_RSS_MB) -malloc_limit_mb=$(FUZZ_RSS_MB) -timeout=10 \
			-max_len=16384 -print_final_stats=1 $$dict -artifact_prefix=$(FUZZ_B)/findings/$$t/ $(FUZZ_B)/corpus/$$t $$seeds \
			> $(FUZZ_B)/$$t.log 2>&1 || { tail -40 $(FUZZ_B)/$$t.log; echo "fuzz $$t: a finding, see $(FUZZ_B)/$$t.log"; exit 1; }; \
		grep -E 'stat::number_of_executed_units|stat::peak_rss' $(FUZZ_B)/$$t.log; \
	done

-include $(shell find $(FUZZ_B) -name '*.d' 2>/dev/null)
.PHONY: fuzz fuzz-build
