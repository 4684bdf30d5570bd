// Package kv is the port between the Store and whatever keeps its items: DynamoDB, an embedded SQLite file, memory.
//
// # Shape
//
// A store is one table of items. An item has a two-part key (PK names a partition, SK orders items inside it), a flat
// map of typed attributes, an optional entry in each secondary index and an optional expiry. That is the part of
// DynamoDB's single-table model that the Store needs and no more: there are no scans, no filters, no nested documents
// (a document is one opaque []byte attribute) and no expression strings.
//
//	Store (entities, keys, escaping: written once)
//	  |
//	  v
//	kv.Driver  <- meterkv (counts what DynamoDB would bill)  <- faultkv (seeded faults)
//	  |
//	  +-- memkv     memory, optionally with lagging indexes and lagging eventual reads
//	  +-- sqlitekv  one file, group commit
//	  +-- dynamokv  one table, on demand
//
// Package kvtest holds the suite that every driver passes. Semantics that are not obvious are DynamoDB's, so that
// nothing above the port changes when the driver does:
//
//   - Update creates the item when it does not exist (add [Exists] to forbid that), and Add counts from 0.
//   - A comparison with a missing attribute, or with one of another type, is false; so Not(Eq(a, v)) is true for both.
//   - Delete of an absent item succeeds.
//   - Ordering of strings and keys is by UTF-8 bytes; of []byte by bytes; of int64 by value. Booleans have no order.
//   - A page may end early (1 MB) and the last page may be empty: only an empty cursor means the end.
//
// # Consistency
//
// Write and Transact are atomic and serializable per item and per transaction. Get, BatchGet and Query of the table
// with Consistent see every write that was acknowledged before they started; without it, and for every index query,
// they may be behind by an unspecified number of writes, and an index may be behind the table.
//
// # Indexes
//
// Secondary indexes are sparse (an item without an entry is not in the index) and carry the item's key, its entry and
// the attributes named in [Index.Include]; nothing else. Projecting everything was rejected: DynamoDB bills one more
// write for every change of a projected attribute, so a full projection would double the price of each scheduler step
// on the items that change most often. A caller that needs the rest of an item reads it with BatchGet.
//
// # What an error says about the outcome
//
// A write that reports a failed condition, an invalid or oversized request, throttling or a transaction conflict was
// not applied; [NotApplied] tells. After any other error (a timeout, [ErrUnavailable], a cancelled context) it may or
// may not have been. Repeat a Transact with its token; repeat a Write only when its condition makes the repetition
// harmless: if the first one was applied the condition now fails and the error carries the item, which shows it.
package kv
