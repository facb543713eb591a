"""Rules for the install script that pgspot does not know. Called by check-sql.sh.

PostgreSQL's own parser reads the files (pglast, which pgspot comes with), so that comments, strings
and line breaks do not matter.
"""

import re
import sys

from pglast import ast, parse_sql
from pglast.enums import ObjectType
from pglast.stream import RawStream

# Tables and sequences whose rows are not dumped, each with the reason.
NOT_DUMPED = {}

SCHEMA, TARGET = "meetlink", "extschema"
findings = []
made = {}  # (kind, name) -> place
revoked, commented, dumped = set(), set(), set()


def name_of(parts):
    # Unqualified, a verb is in the target schema as well.
    return ".".join(part.sval for part in parts).removeprefix(f"{TARGET}.")


def name_of_range(relation):
    return ".".join(filter(None, [relation.schemaname, relation.relname]))


def signature(name, types):
    return f"{name}({', '.join(RawStream()(t) for t in types)})"


def search_path_of(node):
    return [RawStream()(schema).strip("'") for schema in node.args]


def made_here(kind, name, place):
    made[(kind, name)] = place


def function(node, place):
    inputs = "ivd"  # IN, VARIADIC, and the default, which is IN
    types = [p.argType for p in node.parameters or () if p.mode.value in inputs or p.mode.value == "b"]
    name = name_of(node.funcname)
    made_here("function", signature(name, types), place)
    options = {option.defname: option.arg for option in node.options}
    if "security" in options:
        findings.append(f"{place}: {name} is SECURITY DEFINER, and so forgets who called it")
    returns_trigger = node.returnType is not None and name_of(node.returnType.names) == "trigger"
    if not returns_trigger:
        pinned = options.get("set")
        path = search_path_of(pinned) if isinstance(pinned, ast.VariableSetStmt) else []
        if path != ["pg_catalog", "pg_temp"]:
            findings.append(f"{place}: {name} wants SET search_path = pg_catalog, pg_temp")
    own = len(node.funcname) == 2 and node.funcname[0].sval in (SCHEMA, TARGET)
    # The verbs go where CREATE EXTENSION puts them: search_path stands on @extschema@ for them.
    if not own and not (name.startswith("meetlink_") and search_path[0] == TARGET):
        findings.append(f"{place}: {name} would land in {search_path[0]}: write {SCHEMA}.{name} or @extschema@.{name}")


def relation(kind, node, place):
    name = name_of_range(node)
    made_here(kind, name, place)
    if node.schemaname != SCHEMA:
        findings.append(f"{place}: {kind} {name} wants the schema {SCHEMA} before its name")


def look(node, place):
    global search_path
    for flag in ("replace", "if_not_exists"):
        if getattr(node, flag, False):
            findings.append(f"{place}: no CREATE OR REPLACE and no IF NOT EXISTS (CVE-2022-2625)")
    match node:
        case ast.VariableSetStmt(name="search_path"):
            search_path = search_path_of(node)
            if not node.is_local:
                findings.append(f"{place}: SET LOCAL, or the session keeps the search_path")
        case ast.CreateSchemaStmt():
            made_here("schema", node.schemaname, place)
        case ast.CreateFunctionStmt():
            function(node, place)
        case ast.CreateStmt():
            relation("table", node.relation, place)
            table = node.relation.relname
            for column in node.tableElts or ():
                kinds = [c.contype.name for c in getattr(column, "constraints", None) or ()]
                if "CONSTR_IDENTITY" in kinds:
                    made_here("sequence", f"{SCHEMA}.{table}_{column.colname}_seq", place)
        case ast.CreateSeqStmt():
            relation("sequence", node.sequence, place)
        case ast.ViewStmt():
            relation("view", node.view, place)
        case ast.IndexStmt():
            made_here("index", f"{node.relation.schemaname}.{node.idxname}", place)
        case ast.CreateTrigStmt():
            made_here("trigger", f"{name_of_range(node.relation)}.{node.trigname}", place)
        case ast.GrantStmt(objtype=ObjectType.OBJECT_FUNCTION):
            public = any(g.roletype.name == "ROLESPEC_PUBLIC" for g in node.grantees)
            for item in node.objects:
                if public and not node.is_grant and node.privileges is None:
                    revoked.add(signature(name_of(item.objname), item.objargs or ()))
                if public and node.is_grant:
                    findings.append(f"{place}: nothing is granted to PUBLIC")
        case ast.CommentStmt():
            kind = node.objtype.name.removeprefix("OBJECT_").lower()
            if isinstance(node.object, ast.ObjectWithArgs):
                name = signature(name_of(node.object.objname), node.object.objargs or ())
            elif isinstance(node.object, ast.String):
                name = node.object.sval
            else:
                name = name_of(node.object)
            commented.add((kind, name))
        case ast.SelectStmt():
            for text in re.findall(r"pg_extension_config_dump\('([^']+)'", RawStream()(node)):
                dumped.add(text)


search_path = [TARGET]  # What CREATE EXTENSION sets.
for path in sys.argv[1:]:
    with open(path, encoding="utf8") as file:
        text = file.read().replace("@extschema@", TARGET)
    for statement in parse_sql(text):
        # A statement begins with the comments before it.
        rest = re.sub(r"\A(\s|--[^\n]*\n)+", "", text[statement.stmt_location :])
        line = 1 + text.count("\n", 0, len(text) - len(rest))
        look(statement.stmt, f"{path}:{line}")

for (kind, name), place in made.items():
    if kind == "function" and name not in revoked:
        findings.append(f"{place}: REVOKE ALL ON FUNCTION {name} FROM PUBLIC is missing")
    if (kind, name) not in commented:
        findings.append(f"{place}: COMMENT ON {kind.upper()} {name} is missing")
    if kind in ("table", "sequence") and (name in dumped) == (name in NOT_DUMPED):
        findings.append(
            f"{place}: pg_extension_config_dump('{name}', '') is missing; where its rows are not to be "
            "dumped, NOT_DUMPED in scripts/check-sql.py says why"
        )
if len(made) < 30:
    findings.append(f"only {len(made)} objects were found; there should be dozens")

print("\n".join(findings) if findings else f"  {len(made)} objects: revoked, commented, dumped, qualified")
sys.exit(bool(findings))
