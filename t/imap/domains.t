#!t/transcript
# Virtual domains: each sees its own users and shared mailboxes; names never lead into another domain
config virtdomains: userid
config admins: admin
config sasl_mech_list: PLAIN
== two users of one name
client z as admin
z> CREATE user/ann@one.example
z< OK ...
z> CREATE user/ann@two.example
z< OK ...
z> CREATE user/ann/Sent@one.example
z< OK ...
z> CREATE shared@one.example
z< OK ...
z> SETACL shared@one.example anyone lrs
z< OK ...
z> LIST "" *
z< * LIST (\HasChildren) "/" user/ann@one.example
z< * LIST (\HasNoChildren) "/" user/ann/Sent@one.example
z< * LIST (\HasNoChildren) "/" user/ann@two.example
z< * LIST (\HasNoChildren) "/" shared@one.example
z< OK ...
client p as ann@one.example
client q as ann@two.example
user ann@one.example
user ann@two.example
p> LIST "" *
p< * LIST (\HasNoChildren) "/" INBOX
p< * LIST (\HasNoChildren) "/" Sent
p< * LIST (\HasNoChildren) "/" "Shared Folders/shared"
p< OK ...
q> LIST "" *
q< * LIST (\HasNoChildren) "/" INBOX
q! * LIST ... Sent
q! * LIST ... "Shared Folders/shared"
q< OK ...
