package kv

import (
	"maps"
	"strconv"
)

// Key names an item, or an item's place in an index. Both parts are non-empty valid UTF-8; PK has at most
// [MaxPKBytes] bytes and SK at most [MaxSKBytes]. Any other content is stored as it is.
type Key struct{ PK, SK string }

// String renders the key, quoted, for messages; long parts are cut.
func (k Key) String() string { return quoteShort(k.PK) + "/" + quoteShort(k.SK) }

func quoteShort(s string) string {
	const most = 200
	if len(s) <= most {
		return strconv.Quote(s)
	}
	return strconv.Quote(s[:most]) + "..."
}

// IsZero reports whether the key is the zero Key, which names nothing.
func (k Key) IsZero() bool { return k == Key{} }

// IndexName names a secondary index; see [Schema].
type IndexName string

// Item is what is stored under a key. Drivers return Items that the caller owns (maps may be changed, the bytes inside
// values may not) and never keep a reference to the maps of an Item they were given.
type Item struct {
	Key
	// Attrs holds the attributes by name. Names are 1 to 255 bytes and not reserved (see [Schema]).
	Attrs map[string]Value
	// Index holds the item's entries in secondary indexes; absent means not in that index. An Item returned by an index
	// query has only its entry in the queried index, and only the attributes which that index includes.
	Index map[IndexName]Key
	// ExpiresAt is a Unix time in seconds after which the item may vanish, 0 for never. Collection is lazy (DynamoDB
	// takes up to days): until it vanishes an expired item is returned like any other, so a lease or a token compares
	// times itself. An item returned by an index query has none.
	ExpiresAt int64
}

// Str returns the string attribute, or "" when it is missing or of another kind.
func (it Item) Str(attr string) string { return it.Attrs[attr].Str() }

// Int returns the integer attribute, or 0 when it is missing or of another kind.
func (it Item) Int(attr string) int64 { return it.Attrs[attr].Int() }

// Bytes returns the binary attribute, or nil when it is missing or of another kind. The caller must not change it.
func (it Item) Bytes(attr string) []byte { return it.Attrs[attr].Bytes() }

// Bool returns the boolean attribute, or false when it is missing or of another kind.
func (it Item) Bool(attr string) bool { return it.Attrs[attr].Bool() }

// Has reports whether the attribute is present.
func (it Item) Has(attr string) bool { _, ok := it.Attrs[attr]; return ok }

// Clone returns a copy that shares no map with it.
func (it Item) Clone() Item {
	it.Attrs = maps.Clone(it.Attrs)
	it.Index = maps.Clone(it.Index)
	return it
}

// Equal reports whether two items have the same key, attributes, index entries and expiry. Nil and empty maps are the
// same.
func (it Item) Equal(other Item) bool {
	return it.Key == other.Key && it.ExpiresAt == other.ExpiresAt &&
		maps.Equal(it.Attrs, other.Attrs) && maps.Equal(it.Index, other.Index)
}

// Size is the item's size in bytes as DynamoDB counts it: names and values of all attributes, with the key, the index
// entries and the expiry stored as attributes of the names in [Schema].
func (it Item) Size() int {
	n := len(AttrPK) + len(it.PK) + len(AttrSK) + len(it.SK)
	for name, v := range it.Attrs {
		n += len(name) + v.Size()
	}
	for name, k := range it.Index {
		n += 2*len(name) + len(AttrPK) + len(k.PK) + len(AttrSK) + len(k.SK)
	}
	if it.ExpiresAt != 0 {
		n += len(AttrExpiresAt) + intSize(it.ExpiresAt)
	}
	return n
}

// ProjectedSize is the size of the item's entry in the index, 0 when it has none: its key, its index key and the
// included attributes.
func (it Item) ProjectedSize(ix Index) int {
	k, ok := it.Index[ix.Name]
	if !ok {
		return 0
	}
	n := len(AttrPK) + len(it.PK) + len(AttrSK) + len(it.SK) + 2*len(ix.Name) + len(AttrPK) + len(k.PK) + len(AttrSK) + len(k.SK)
	for _, name := range ix.Include {
		if v, ok := it.Attrs[name]; ok {
			n += len(name) + v.Size()
		}
	}
	return n
}

// Project returns what an index query returns for the item and reports whether the item is in that index.
func (it Item) Project(ix Index) (Item, bool) {
	k, ok := it.Index[ix.Name]
	if !ok {
		return Item{}, false
	}
	out := Item{Key: it.Key, Index: map[IndexName]Key{ix.Name: k}, Attrs: make(map[string]Value, len(ix.Include))}
	for _, name := range ix.Include {
		if v, ok := it.Attrs[name]; ok {
			out.Attrs[name] = v
		}
	}
	return out, true
}
