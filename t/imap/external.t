#!t/transcript
# A client's certificate and SASL EXTERNAL (RFC 4422 appendix A), ALPN (RFC 7301), SNI (RFC 6066 3)
config allowplaintext: no
config sasl_mech_list: PLAIN EXTERNAL
config tls_client_ca_file: %DIR%/cert.pem
config proxyservers: proxy
run for who in alice stranger proxy; do openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /O=Example/CN=$who -keyout $who.key -out $who.csr 2>/dev/null && openssl x509 -req -in $who.csr -CA cert.pem -CAkey key.pem -CAcreateserial -days 5 -out $who.pem 2>/dev/null || exit 1; done
run openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 5 -subj /CN=alice -keyout self.key -out self.pem 2>/dev/null

== EXTERNAL is offered to who has shown a certificate, and to nobody else
client n raw
n<< * OK ...
n> STARTTLS
n< OK ...
n tls
n> CAPABILITY
n< * CAPABILITY ... AUTH=PLAIN ...
n! * CAPABILITY ... AUTH=EXTERNAL ...
n< OK ...
n> AUTHENTICATE EXTERNAL =
n< NO ...
client a raw
a<< * OK ...
a! * OK [CAPABILITY ... AUTH=EXTERNAL] ...
a> STARTTLS
a< OK ...
a tls -cert %DIR%/alice.pem -key %DIR%/alice.key
a> CAPABILITY
a< * CAPABILITY ... AUTH=EXTERNAL ...
a< OK ...

== the certificate's common name is the user
a> AUTHENTICATE EXTERNAL =
a< OK ...
a> SELECT INBOX
a< OK [READ-WRITE] ...
a> MYRIGHTS INBOX
a< * MYRIGHTS INBOX ...
a< OK ...

== without an initial response, and saying who one is
client b raw %IMAPS%
b tls -cert %DIR%/alice.pem -key %DIR%/alice.key -alpn imap
b<< * OK [CAPABILITY ... AUTH=EXTERNAL] ...
b> AUTHENTICATE EXTERNAL
b< + ...
b>> YWxpY2U=
b< OK ...

== but not somebody else
client c raw %IMAPS%
c tls -cert %DIR%/alice.pem -key %DIR%/alice.key
c<< * OK ...
c> AUTHENTICATE EXTERNAL Ym9i
c< NO [AUTHORIZATIONFAILED] ...
c> AUTHENTICATE EXTERNAL
c< + ...
c>> *
c< BAD ...
c> AUTHENTICATE EXTERNAL =
c< OK ...

== unless one may act as others
client p raw %IMAPS%
p tls -cert %DIR%/proxy.pem -key %DIR%/proxy.key
p<< * OK ...
p> AUTHENTICATE EXTERNAL Ym9i
p< OK ...
p> STATUS INBOX (MESSAGES)
p< * STATUS INBOX (MESSAGES 0)
p< OK ...

== a certificate that does not verify is as good as none
client s raw %IMAPS%
s tls -cert %DIR%/self.pem -key %DIR%/self.key
s<< * OK ...
s! * OK [CAPABILITY ... AUTH=EXTERNAL] ...
s> AUTHENTICATE EXTERNAL =
s< NO ...

== another protocol is refused with the alert that says so (RFC 7301 3.2)
run ! openssl s_client -connect 127.0.0.1:$IMAPS -alpn pop3 </dev/null >alpn.out 2>&1 && grep -qi 'no application protocol' alpn.out
run openssl s_client -connect 127.0.0.1:$IMAPS -alpn http/1.1,imap </dev/null 2>&1 | grep -q 'ALPN protocol: imap'

== a certificate for each name, and new ones after HUP
run mkdir -p more/two.example && openssl req -x509 -newkey rsa:2048 -nodes -days 5 -subj /CN=two.example -keyout more/two.example/privkey.pem -out more/two.example/fullchain.pem 2>/dev/null && chmod -R a+rX more && chmod a+r more/two.example/*
run echo 'tls_server_cert_dir: '$DIR/more >>imapd.conf
server hup
sleep 0.5
run openssl s_client -connect 127.0.0.1:$IMAPS -servername two.example </dev/null 2>&1 | grep -q 'subject=CN = two.example'
run openssl s_client -connect 127.0.0.1:$IMAPS -servername three.example </dev/null 2>&1 | grep -q 'subject=CN = localhost'
run openssl s_client -connect 127.0.0.1:$IMAPS -noservername </dev/null 2>&1 | grep -q 'subject=CN = localhost'

== running sessions have nothing to do with it
a> NOOP
a< OK ...

== a name's credentials take clients' certificates too
client d raw %IMAPS%
d tls -cert %DIR%/alice.pem -key %DIR%/alice.key -servername two.example
d<< * OK [CAPABILITY ... AUTH=EXTERNAL] ...
d> AUTHENTICATE EXTERNAL =
d< OK ...

== a resumed session is who it was
client e raw %IMAPS%
e tls -cert %DIR%/alice.pem -key %DIR%/alice.key -sess_out %DIR%/alice.sess
e<< * OK ...
client f raw %IMAPS%
f tls -sess_in %DIR%/alice.sess
f<< * OK [CAPABILITY ... AUTH=EXTERNAL] ...
f> AUTHENTICATE EXTERNAL =
f< OK ...
client g raw %IMAPS%
g tls -sess_out %DIR%/nobody.sess
g<< * OK ...

== tls_client_certs: require; a broken certificate file leaves the present one
run echo 'imaps_tls_client_certs: require' >>imapd.conf
server hup
sleep 0.5
client r raw %IMAPS%
r tls
r< disconnect
client u raw %IMAPS%
u tls -sess_in %DIR%/nobody.sess
u< disconnect
client q raw %IMAPS%
q tls -cert %DIR%/alice.pem -key %DIR%/alice.key
q<< * OK ...
run mv cert.pem cert.kept
server hup
sleep 0.5
client t raw %IMAPS%
t tls -cert %DIR%/alice.pem -key %DIR%/alice.key
t<< * OK ...
