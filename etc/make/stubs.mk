# Parts of the program that are not there yet are stood in for by t/stubs/, so that it links from the start.
stub = $(if $(shell grep -lsE '$(2)' $(3) /dev/null),,$B/t/stubs/$(1).o)
STUBOBJ := $(strip $(call stub,engine,^int engine_start,server/*.c) $(call stub,store,^int store_open,store/*.c) \
	$(call stub,tls,^int tls_init,server/*.c) $(call stub,sasl,^int sasl_setup,server/*.c) \
	$(call stub,tls_cert,^int tls_make_self_signed,server/*.c) $(call stub,imap,session_ops imap_ops =,server/imap/*.c) $(call stub,lmtp,session_ops lmtp_ops =,server/lmtp/*.c) \
	$(call stub,control,session_ops control_ops =,server/control/*.c))
$B/cyrd: $(STUBOBJ)
# Until all parts are there, what one part wants of a missing one is left open: it must not be called.
$B/cyrd $B/cyrctl: LDFLAGS += -no-pie -Wl,--unresolved-symbols=ignore-all
