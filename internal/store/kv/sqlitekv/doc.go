// Package sqlitekv keeps items in one SQLite file: the store of `gust standalone`, of small installations and of tests
// that need durability. docs/adr/0003-embedded-store.md says why SQLite, and why in pure Go.
//
// # Writing
//
// One goroutine owns the only writing connection. It takes everything that callers have submitted meanwhile, does it
// in one SQLite transaction, commits (which syncs the write-ahead log: synchronous=FULL) and only then acknowledges:
//
//	callers ──► queue ──► BEGIN IMMEDIATE · read, test, write each request · COMMIT ──► answer all
//
// A lone write is therefore acknowledged after one sync, and many concurrent ones share a sync. Each request's
// conditions are tested, in order of arrival, before anything of it is written, so a failed one leaves no trace and
// does not disturb the others; if SQLite itself fails on one of them, all are repeated one by one.
//
// # Reading
//
// Readers have connections of their own and see committed data only; a read that starts after a write was
// acknowledged sees it, whether Consistent is asked or not, and index queries are never behind.
//
// # Several processes
//
// Any number of processes may open one file on a local file system (not NFS): the CLI beside the server. Writers take
// turns by SQLite's lock; one that waits longer than [Options.BusyTimeout] reports kv.ErrThrottled. A process that
// finds that another one, of a newer version, changed the file's format stops writing with kv.ErrNewerFormat.
//
// # File
//
//	item(id, pk, sk, body, expires)            one row per item; body is the compact encoding of codec.go
//	ix_<index>(ipk, isk, pk, sk, body)      one row per index entry; body has the included attributes
//	token(token, print, at)                 tokens of recent transactions
//	format(id, version, writer, indexes)    one row
//
// application_id and user_version in the SQLite header identify the file and its format before anything else is read.
// Copy the file with [Store.Backup], with any SQLite backup tool, or, when no process has it open, with cp.
package sqlitekv
