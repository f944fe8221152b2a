//! Commands that change a database or its schema.

use super::{Found, begins_with, operands};
use crate::action::Effect;
use crate::shell::{Command, Input, Word};

/// A program that takes SQL.
struct SqlClient {
    programs: &'static [&'static str],
    /// Options whose value is SQL.
    sql_options: &'static [&'static str],
    /// Options whose value is a file of SQL.
    file_options: &'static [&'static str],
    /// Other options that take the next word as their value.
    value_options: &'static [&'static str],
    /// SQL may follow as operands, after so many others.
    sql_operands_after: Option<usize>,
    /// Options after which it does nothing to a database.
    harmless: &'static [&'static str],
}

const SQL_CLIENTS: [SqlClient; 6] = [
    SqlClient {
        programs: &["psql", "pgcli", "usql", "gsql", "vsql", "edb-psql"],
        sql_options: &["-c", "--command"],
        file_options: &["-f", "--file"],
        value_options: &[
            "-d",
            "--dbname",
            "-h",
            "--host",
            "-p",
            "--port",
            "-U",
            "--username",
            "-v",
            "--set",
            "-F",
            "-R",
            "-P",
            "-o",
            "-L",
            "-T",
        ],
        sql_operands_after: None,
        harmless: &["-l", "--list", "-V", "--version", "-?", "--help"],
    },
    SqlClient {
        programs: &["mysql", "mariadb", "mycli", "mysqlsh", "tidb"],
        sql_options: &["-e", "--execute", "--init-command"],
        file_options: &["--file", "-f"],
        value_options: &["-h", "--host", "-P", "--port", "-u", "--user", "-D", "--database", "-S", "--socket"],
        sql_operands_after: None,
        harmless: &["-V", "--version", "--help", "-?"],
    },
    SqlClient {
        programs: &["sqlite3", "sqlite", "duckdb", "sqlcipher", "litecli"],
        sql_options: &["-cmd", "-c"],
        file_options: &["-init", "-f"],
        value_options: &["-separator", "-nullvalue", "-newline", "-mmap", "-maxsize", "-lookaside", "-vfs"],
        sql_operands_after: Some(1),
        harmless: &["-version", "--version", "-help", "--help", "-readonly", "--readonly"],
    },
    SqlClient {
        programs: &[
            "clickhouse-client",
            "clickhouse",
            "clickhouse-local",
            "trino",
            "presto",
            "hive",
            "beeline",
            "impala-shell",
            "snowsql",
            "bq",
            "spanner-cli",
        ],
        sql_options: &["-q", "--query", "-e", "--execute", "-mn"],
        file_options: &["--queries-file", "-f", "--file"],
        value_options: &["-h", "--host", "--port", "-u", "--user", "-d", "--database"],
        sql_operands_after: Some(1),
        harmless: &["--version", "--help"],
    },
    SqlClient {
        programs: &["sqlcmd", "osql", "isql", "tsql", "sqlplus", "db2", "cqlsh", "bteq"],
        sql_options: &["-Q", "-q", "-e", "--execute"],
        file_options: &["-i", "-f", "--file"],
        value_options: &["-S", "-U", "-P", "-d", "-h", "-u", "-p", "-k"],
        sql_operands_after: None,
        harmless: &["--version", "-?", "--help"],
    },
    SqlClient {
        programs: &["cockroach"],
        sql_options: &["-e", "--execute"],
        file_options: &["-f", "--file"],
        value_options: &["--host", "--url", "--user", "-u", "-d", "--database", "-p", "--port"],
        sql_operands_after: None,
        harmless: &["version", "--version", "--help", "start", "node", "gen", "cert"],
    },
];

/// Programs that write by some of their subcommands: program, subcommand.
const WRITERS: [(&str, &str); 75] = [
    ("alembic", "upgrade"),
    ("alembic", "downgrade"),
    ("alembic", "stamp"),
    ("aerich", "upgrade"),
    ("aerich", "downgrade"),
    ("atlas", "schema apply"),
    ("atlas", "schema clean"),
    ("atlas", "migrate apply"),
    ("atlas", "migrate down"),
    ("createdb", ""),
    ("createuser", ""),
    ("dropdb", ""),
    ("dropuser", ""),
    ("pg_restore", ""),
    ("mysqlimport", ""),
    ("mariadb-import", ""),
    ("mongoimport", ""),
    ("mongorestore", ""),
    ("vacuumdb", ""),
    ("reindexdb", ""),
    ("pgloader", ""),
    ("mysql_upgrade", ""),
    ("mysqladmin", "create"),
    ("mysqladmin", "drop"),
    ("mysqladmin", "shutdown"),
    ("mysqladmin", "flush-privileges"),
    ("dbmate", "up"),
    ("dbmate", "down"),
    ("dbmate", "migrate"),
    ("dbmate", "rollback"),
    ("dbmate", "drop"),
    ("dbmate", "load"),
    ("dbmate", "create"),
    ("dbt", "run"),
    ("dbt", "seed"),
    ("dbt", "snapshot"),
    ("dbt", "build"),
    ("dbt", "run-operation"),
    ("diesel", "migration run"),
    ("diesel", "migration revert"),
    ("diesel", "migration redo"),
    ("diesel", "database"),
    ("diesel", "setup"),
    ("django-admin", "migrate"),
    ("django-admin", "flush"),
    ("django-admin", "loaddata"),
    ("etcdctl", "put"),
    ("etcdctl", "del"),
    ("flask", "db upgrade"),
    ("flask", "db downgrade"),
    ("flask", "db stamp"),
    ("flyway", "migrate"),
    ("flyway", "clean"),
    ("flyway", "undo"),
    ("flyway", "repair"),
    ("flyway", "baseline"),
    ("influx", "write"),
    ("influx", "delete"),
    ("liquibase", "update"),
    ("liquibase", "rollback"),
    ("liquibase", "dropAll"),
    ("liquibase", "drop-all"),
    ("prisma", "migrate deploy"),
    ("prisma", "migrate reset"),
    ("prisma", "migrate dev"),
    ("prisma", "migrate resolve"),
    ("prisma", "db push"),
    ("prisma", "db seed"),
    ("prisma", "db execute"),
    ("sqlx", "migrate run"),
    ("sqlx", "migrate revert"),
    ("sqlx", "database"),
    ("supabase", "db push"),
    ("supabase", "db reset"),
    ("supabase", "migration up"),
];

/// Words that, as an operand of a task runner of a web framework, change a database.
const FRAMEWORK_TASKS: [&str; 24] = [
    "db:create",
    "db:drop",
    "db:fixtures:load",
    "db:migrate",
    "db:migrate:down",
    "db:migrate:redo",
    "db:migrate:reset",
    "db:migrate:undo",
    "db:prepare",
    "db:reset",
    "db:rollback",
    "db:schema:load",
    "db:seed",
    "db:seed:all",
    "db:setup",
    "ecto.drop",
    "ecto.migrate",
    "ecto.reset",
    "ecto.rollback",
    "migrate:latest",
    "migrate:rollback",
    "migration:run",
    "schema:sync",
    "migrate:up",
];
const FRAMEWORK_RUNNERS: [&str; 14] = [
    "rails",
    "rake",
    "bin",
    "mix",
    "knex",
    "sequelize",
    "sequelize-cli",
    "typeorm",
    "artisan",
    "php",
    "bundle",
    "hanami",
    "mikro-orm",
    "goose",
];

/// `manage.py` commands that change the database.
const DJANGO_TASKS: [&str; 7] = ["migrate", "flush", "loaddata", "dbshell", "createsuperuser", "sqlflush", "reset_db"];

const REDIS_READS: [&str; 33] = [
    "get",
    "mget",
    "keys",
    "scan",
    "exists",
    "ttl",
    "pttl",
    "type",
    "info",
    "ping",
    "llen",
    "lrange",
    "lindex",
    "hget",
    "hgetall",
    "hkeys",
    "hvals",
    "hlen",
    "hmget",
    "smembers",
    "scard",
    "sismember",
    "zrange",
    "zcard",
    "zscore",
    "dbsize",
    "strlen",
    "getrange",
    "time",
    "echo",
    "role",
    "object",
    "memory",
];

pub(super) fn effect(program: &str, command: &Command) -> Option<Found> {
    let write = Some(Found::certain(Effect::DatabaseWrite));
    let arguments = command.arguments();
    if let Some(client) = SQL_CLIENTS.iter().find(|client| client.programs.contains(&program)) {
        return client.effect(command);
    }
    let operands = operands(arguments, &["-c", "-n", "--config", "--url", "--schema"]);
    for (_, subcommand) in WRITERS.iter().filter(|(writer, _)| *writer == program) {
        let path: Vec<&str> = subcommand.split_whitespace().collect();
        let helps = arguments.iter().any(|word| matches!(word.text(), Some("--help" | "--version")));
        match begins_with(&operands, &path) {
            _ if helps => {}
            Some(true) => return write,
            Some(false) => {}
            None => return Some(Found::possible(Effect::DatabaseWrite)),
        }
    }
    let has = |tasks: &[&str]| operands.iter().any(|word| word.text().is_some_and(|text| tasks.contains(&text)));
    match program {
        _ if FRAMEWORK_RUNNERS.contains(&program) && has(&FRAMEWORK_TASKS) => write,
        "php" | "artisan"
            if has(&["migrate", "migrate:fresh", "migrate:refresh", "migrate:reset", "db:seed", "db:wipe"]) =>
        {
            write
        }
        "goose" if has(&["up", "down", "redo", "reset", "up-to", "down-to"]) => write,
        "manage.py" if has(&DJANGO_TASKS) => write,
        _ if program.starts_with("python") && runs_manage(&operands) && has(&DJANGO_TASKS) => write,
        "mongo" | "mongosh" => mongo_effect(command),
        "redis-cli" | "valkey-cli" | "keydb-cli" => redis_effect(command),
        _ => None,
    }
}

fn runs_manage(operands: &[&Word]) -> bool {
    operands
        .first()
        .and_then(|word| word.text())
        .is_some_and(|text| text == "manage.py" || text.ends_with("/manage.py"))
}

impl SqlClient {
    fn effect(&self, command: &Command) -> Option<Found> {
        let arguments = command.arguments();
        if arguments.iter().any(|word| word.text().is_some_and(|text| self.harmless.contains(&text))) {
            return None;
        }
        let mut scripts: Vec<Word> = Vec::new();
        let mut unclear = false;
        let mut operands = Vec::new();
        let mut position = 0;
        while let Some(word) = arguments.get(position) {
            position += 1;
            unclear |= word.may_split();
            let text = word.text().unwrap_or_default();
            if self.takes(self.sql_options, text) {
                scripts.push(arguments.get(position).cloned().unwrap_or_else(Word::unknown));
                position += 1;
            } else if let Some(attached) = attached(word, self.sql_options) {
                scripts.push(attached);
            } else if self.takes(self.file_options, text) || attached(word, self.file_options).is_some() {
                unclear = true;
            } else if self.value_options.contains(&text) {
                position += 1;
            } else if !word.prefix().starts_with('-') {
                operands.push(word.clone());
            }
        }
        if let Some(after) = self.sql_operands_after {
            let in_memory = operands.first().and_then(Word::text) == Some(":memory:");
            if in_memory {
                return None;
            }
            scripts.extend(operands.into_iter().skip(after));
        }
        if scripts.is_empty() {
            match &command.input {
                Input::Known(text) => scripts.push(Word::literal(text)),
                Input::Nothing => {}
                Input::Unknown => unclear = true,
            }
        }
        judge(&scripts, unclear)
    }

    /// Whether the word is one of the options, alone or as the last of a group such as `-tAc`.
    fn takes(&self, options: &[&str], text: &str) -> bool {
        let is_group = text.len() > 2
            && text.starts_with('-')
            && !text.starts_with("--")
            && text[1..].chars().all(char::is_alphabetic);
        let grouped = |option: &&&str| option.len() == 2 && text.ends_with(&option[1..]);
        let names_itself = self.programs.contains(&"sqlite3");
        options.contains(&text) || (is_group && !names_itself && options.iter().any(|option| grouped(&option)))
    }
}

/// `--option=value`, `-xvalue`.
fn attached(word: &Word, options: &[&str]) -> Option<Word> {
    options.iter().find_map(|option| {
        let rest = word.prefix().strip_prefix(option)?;
        let value = match (option.len(), rest.strip_prefix('=')) {
            (_, Some(value)) => value,
            (2, None) if !rest.is_empty() && rest.contains(' ') => rest,
            _ => return None,
        };
        Some(if word.text().is_some() { Word::literal(value) } else { Word::unknown() })
    })
}

fn judge(scripts: &[Word], unclear: bool) -> Option<Found> {
    let mut possible = unclear;
    for script in scripts {
        match script.text().map(writes) {
            Some(true) => return Some(Found::certain(Effect::DatabaseWrite)),
            Some(false) => {}
            None if writes(&script.display()) => return Some(Found::certain(Effect::DatabaseWrite)),
            None => possible = true,
        }
    }
    possible.then(|| Found::possible(Effect::DatabaseWrite))
}

/// First words of statements that read.
const READING: [&str; 19] = [
    "SELECT", "SHOW", "EXPLAIN", "DESCRIBE", "DESC", "WITH", "VALUES", "TABLE", "PRAGMA", "USE", "SET", "RESET",
    "BEGIN", "START", "COMMIT", "ROLLBACK", "END", "HELP", "FROM",
];

/// Words that write wherever they stand.
const WRITING: [&str; 25] = [
    "INSERT",
    "UPDATE",
    "DELETE",
    "DROP",
    "CREATE",
    "ALTER",
    "TRUNCATE",
    "GRANT",
    "REVOKE",
    "MERGE",
    "UPSERT",
    "CALL",
    "EXECUTE",
    "EXEC",
    "COPY",
    "VACUUM",
    "REINDEX",
    "ATTACH",
    "INTO",
    "NEXTVAL",
    "SETVAL",
    "DBLINK",
    "LO_IMPORT",
    "PG_READ_FILE",
    "LOAD_EXTENSION",
];

/// Whether SQL changes something, as far as its words tell.
fn writes(sql: &str) -> bool {
    without_literals(sql).split(';').any(|statement| {
        let is_client_command =
            |line: &&str| line.starts_with('\\') || line.strip_prefix('.').is_some_and(|rest| !rest.is_empty());
        let (commands, lines): (Vec<&str>, Vec<&str>) = statement.lines().map(str::trim).partition(is_client_command);
        let text = lines.join(" ");
        let (text, trailing) = text.split_once('\\').unwrap_or((&text, ""));
        commands.into_iter().any(client_command_writes)
            || (!trailing.is_empty() && client_command_writes(&format!("\\{trailing}")))
            || statement_writes(text)
    })
}

/// Commands of the client itself: files, shells and copies are not for reading alone.
fn client_command_writes(line: &str) -> bool {
    let word: String =
        line[1..].chars().take_while(|character| character.is_alphabetic() || *character == '!').collect();
    [
        "i", "ir", "include", "!", "copy", "g", "gexec", "o", "w", "e", "s", "read", "import", "shell", "system",
        "restore", "load", "save",
    ]
    .contains(&word.as_str())
}

fn statement_writes(text: &str) -> bool {
    let upper = text.to_ascii_uppercase();
    let separates = |character: char| !character.is_alphanumeric() && character != '_';
    let words: Vec<&str> = upper.split(separates).filter(|word| !word.is_empty()).collect();
    let Some(first) = words.first() else { return false };
    if !READING.contains(first) || (*first == "PRAGMA" && text.contains('=')) {
        return true;
    }
    words.iter().enumerate().any(|(position, word)| {
        let locks_only = *word == "UPDATE" && position > 0 && words[position - 1] == "FOR";
        WRITING.contains(word) && !locks_only
    })
}

/// The text without what stands in quotes and comments.
fn without_literals(sql: &str) -> String {
    let mut plain = String::new();
    let mut rest = sql;
    while let Some(character) = rest.chars().next() {
        let skip = match character {
            '\'' | '"' => rest[1..].find(character).map_or(rest.len(), |end| end + 2),
            '-' if rest.starts_with("--") => rest.find('\n').unwrap_or(rest.len()),
            // `/*!` is code to MySQL.
            '/' if rest.starts_with("/*") && !rest.starts_with("/*!") => {
                rest.find("*/").map_or(rest.len(), |end| end + 2)
            }
            _ => {
                plain.push(character);
                rest = &rest[character.len_utf8()..];
                continue;
            }
        };
        plain.push(' ');
        rest = &rest[skip..];
    }
    plain
}

fn mongo_effect(command: &Command) -> Option<Found> {
    const WRITES: [&str; 13] = [
        "insert",
        "update",
        "delete",
        "remove",
        "drop",
        "create",
        "replace",
        "bulkwrite",
        "save(",
        "rename",
        "findandmodify",
        "$out",
        "$merge",
    ];
    let arguments = command.arguments();
    let script = arguments.iter().enumerate().find_map(|(position, word)| match word.text() {
        Some("--eval") => Some(arguments.get(position + 1).cloned().unwrap_or_else(Word::unknown)),
        _ => attached(word, &["--eval"]),
    });
    let text = match (script, &command.input) {
        (Some(script), _) => script.text().map(str::to_owned),
        (None, Input::Known(text)) => Some(text.clone()),
        (None, Input::Nothing) if !arguments.iter().any(|word| word.display().ends_with(".js")) => return None,
        _ => None,
    };
    match text {
        Some(text) => {
            let lower = text.to_ascii_lowercase();
            WRITES.iter().any(|word| lower.contains(word)).then(|| Found::certain(Effect::DatabaseWrite))
        }
        None => Some(Found::possible(Effect::DatabaseWrite)),
    }
}

fn redis_effect(command: &Command) -> Option<Found> {
    let operands = operands(command.arguments(), &["-h", "-p", "-a", "-n", "-u", "--user", "--pass", "-s", "-r", "-i"]);
    match (operands.first().map(|word| word.text()), &command.input) {
        (Some(Some(verb)), _) if REDIS_READS.contains(&verb.to_ascii_lowercase().as_str()) => None,
        (Some(Some(_)), _) => Some(Found::certain(Effect::DatabaseWrite)),
        (None, Input::Nothing) => None,
        _ => Some(Found::possible(Effect::DatabaseWrite)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sql_is_told_apart() {
        for (sql, expected) in [
            ("SELECT 1", false),
            ("select * from t where x = 'delete'", false),
            ("SELECT a\nFROM t\nWHERE b = 1;", false),
            ("select * from t for update", false),
            ("-- drop table t\nselect 1", false),
            ("explain select 1", false),
            ("\\d users", false),
            (".tables", false),
            ("PRAGMA table_info(x)", false),
            ("with a as (select 1) select * from a", false),
            ("INSERT INTO t VALUES (1)", true),
            ("select 1; drop table t", true),
            ("update t set a = 1", true),
            ("with a as (delete from t returning *) select * from a", true),
            ("explain analyze delete from t", true),
            ("select * into b from a", true),
            ("/*!50000 drop */ table t", true),
            ("copy t from '/x'", true),
            ("do $$ begin end $$", true),
            ("\\i dump.sql", true),
            ("\\! rm x", true),
            (".import a b", true),
            ("PRAGMA user_version = 4", true),
            ("vacuum", true),
            ("nonsense", true),
        ] {
            assert_eq!(writes(sql), expected, "{sql}");
        }
    }
}
