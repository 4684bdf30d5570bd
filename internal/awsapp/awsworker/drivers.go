package awsworker

// The databases that SQL tasks may use. SQLite is not among them: a function has
// no file that stays, and the driver would be a sixth of its program.
import (
	_ "github.com/go-sql-driver/mysql" // driver "mysql"
	_ "github.com/jackc/pgx/v5/stdlib" // driver "pgx"
)
