// Package sqldrivers links the database drivers of sqlop: SQLite, PostgreSQL
// and MySQL. Only binaries that run SQL tasks import it.
package sqldrivers

import (
	_ "github.com/go-sql-driver/mysql" // driver "mysql"
	_ "github.com/jackc/pgx/v5/stdlib" // driver "pgx"
	_ "modernc.org/sqlite"             // driver "sqlite"
)
