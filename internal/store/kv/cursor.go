package kv

import (
	"encoding/base64"
	"encoding/binary"
	"strings"
	"unicode/utf8"
)

// Cursor is the decoded form of [Query.Cursor], for drivers: the position of the last item of a page. Positions, not
// counts, are what makes paging stable while items are inserted and deleted.
type Cursor struct {
	Index IndexName // "" for the table
	Key   Key       // the item
	Entry Key       // its entry in Index
}

// cursorVersion guards against cursors of another encoding that a client kept.
const cursorVersion = 1

// CursorAfter returns the encoded cursor that continues after an item of a query's page.
func CursorAfter(q Query, it Item) string {
	return Cursor{Index: q.Index, Key: it.Key, Entry: it.Index[q.Index]}.Encode()
}

// Encode returns the opaque form, safe in URLs.
func (c Cursor) Encode() string {
	b := make([]byte, 0, 16+len(c.Index)+len(c.Key.PK)+len(c.Key.SK)+len(c.Entry.PK)+len(c.Entry.SK))
	b = append(b, cursorVersion)
	for _, s := range []string{string(c.Index), c.Key.PK, c.Key.SK} {
		b = appendString(b, s)
	}
	if c.Index != "" {
		b = appendString(appendString(b, c.Entry.PK), c.Entry.SK)
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

// SK returns the sort key of the position in the queried table or index.
func (c Cursor) SK() string {
	if c.Index != "" {
		return c.Entry.SK
	}
	return c.Key.SK
}

func (c Cursor) partition() string {
	if c.Index != "" {
		return c.Entry.PK
	}
	return c.Key.PK
}

func decodeCursor(s string) (Cursor, error) {
	bad := invalidf("cursor %q is not one that a query returned; start again without a cursor", strings.ToValidUTF8(s, "?"))
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil || len(b) == 0 || b[0] != cursorVersion {
		return Cursor{}, bad
	}
	b = b[1:]
	var c Cursor
	parts := []*string{(*string)(&c.Index), &c.Key.PK, &c.Key.SK, &c.Entry.PK, &c.Entry.SK}
	for i, p := range parts {
		if i == 3 && c.Index == "" {
			break
		}
		n, w := binary.Uvarint(b)
		if w <= 0 || n > uint64(len(b)-w) {
			return Cursor{}, bad
		}
		*p = string(b[w : w+int(n)])
		b = b[w+int(n):]
		if !utf8.ValidString(*p) {
			return Cursor{}, bad
		}
	}
	if len(b) != 0 {
		return Cursor{}, bad
	}
	return c, nil
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}
