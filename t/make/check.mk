# make check: install what is missing, build, run every t/check.d/NN-name (see t/run-checks). make check CHECK=daemon: some of them.
check:
	@etc/install-deps --test
	@t/run-checks $(CHECK)

# The acceptance tests in full: hours, some of it as root.
accept:
	@etc/install-deps --test
	@CHECK=1 t/run-checks --in t/accept.d $(ACCEPT)

# The parts by themselves, for those that are Perl programs printing TAP.
daemon-test: all
	@prove t/daemon/*.t
.PHONY: daemon-test

# For t/check.d: build without running, and what there is.
build-tests-unit: $(UNIT)
build-tests-race: $(RACE)
list-unit:
	@printf '%s\n' $(UNIT)
list-race:
	@printf '%s\n' $(RACE)
.PHONY: build-tests-unit build-tests-race list-unit list-race
