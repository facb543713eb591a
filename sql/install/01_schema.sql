-- The nouns live in the schema meetlink; the verbs go where CREATE EXTENSION puts them.
CREATE SCHEMA meetlink;
COMMENT ON SCHEMA meetlink IS
  'meetlink: what there is to look at (\d meetlink.*); its functions are called meetlink_*';
REVOKE ALL ON SCHEMA meetlink FROM PUBLIC;
