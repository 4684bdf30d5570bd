package sqlitekv

import (
	"errors"
	"fmt"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/gustflow/gust/internal/store/kv"
)

// explain turns an error of SQLite into the kv error it means, with what to do about it. Other errors stay.
func (s *Store) explain(err error) error { return explain(s.path, err) }

func explain(path string, err error) error {
	var se *sqlite.Error
	if err == nil || !errors.As(err, &se) {
		return err
	}
	is := func(kind error, what string) error { return fmt.Errorf("%w: %s: %s (%w)", kind, path, what, se) }
	if se.Code() == sqlite3.SQLITE_READONLY_DBMOVED {
		return is(kv.ErrUnavailable, "the file was moved or deleted while it was open; put it back and restart")
	}
	switch se.Code() & 0xff {
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL:
		return is(kv.ErrThrottled, "another process holds the write lock; try again, or find the process that keeps it")
	case sqlite3.SQLITE_FULL:
		return is(kv.ErrDiskFull, "nothing more can be written; free some space and try again, what was acknowledged is safe")
	case sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH:
		return is(kv.ErrReadOnly, "the file and its folder must be writable by this user")
	case sqlite3.SQLITE_CANTOPEN:
		return is(kv.ErrUnavailable, "cannot be opened; the folder must exist and be writable by this user")
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
		return is(kv.ErrCorrupt, "the file is damaged or not a database; keep a copy and restore it from a backup")
	case sqlite3.SQLITE_TOOBIG:
		return is(kv.ErrTooLarge, "a row is larger than SQLite allows")
	case sqlite3.SQLITE_IOERR:
		return is(kv.ErrUnavailable, "the disk failed; check the system log, what was acknowledged is safe")
	case sqlite3.SQLITE_NOMEM:
		return is(kv.ErrUnavailable, "out of memory")
	}
	return is(kv.ErrUnavailable, "unexpected error of SQLite")
}
