-- Privileges on relations are none until granted (README says which); a worker comes at commit.
SELECT meetlink.announce_extension();
