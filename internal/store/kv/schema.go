package kv

import (
	"slices"
	"strings"
)

// Names of the table's own attributes in DynamoDB. An index named "gsi1" has its key in "gsi1pk" and "gsi1sk". Items
// may not use any of these names for attributes of their own.
const (
	AttrPK        = "pk"
	AttrSK        = "sk"
	AttrExpiresAt = "ttl"
)

// The two generic indexes of [DefaultSchema].
const (
	GSI1 IndexName = "gsi1"
	GSI2 IndexName = "gsi2"
)

// AttrIndexed is the one attribute that the indexes of [DefaultSchema] carry: a small value (a summary for lists, a
// counter) that should change rarely, because every change of it costs one more write unit per index that holds the item.
const AttrIndexed = "ix"

// Index describes a secondary index.
type Index struct {
	Name IndexName
	// Include names the attributes that an index query returns, besides the keys. See the package comment for why it
	// is not "all".
	Include []string
}

// Schema describes the secondary indexes of a table; a driver is opened with one. Changing it needs a migration on
// DynamoDB, so it is generic: entities choose index keys, not indexes.
type Schema struct{ Indexes []Index }

// DefaultSchema returns two generic indexes, [GSI1] and [GSI2], that include [AttrIndexed].
func DefaultSchema() Schema {
	return Schema{Indexes: []Index{
		{Name: GSI1, Include: []string{AttrIndexed}},
		{Name: GSI2, Include: []string{AttrIndexed}},
	}}
}

// Index returns the index of that name and reports whether there is one.
func (s Schema) Index(name IndexName) (Index, bool) {
	i := slices.IndexFunc(s.Indexes, func(ix Index) bool { return ix.Name == name })
	if i < 0 {
		return Index{}, false
	}
	return s.Indexes[i], true
}

// reserved reports whether an attribute name belongs to the table itself.
func (s Schema) reserved(attr string) bool {
	if attr == AttrPK || attr == AttrSK || attr == AttrExpiresAt {
		return true
	}
	for _, ix := range s.Indexes {
		if rest, ok := strings.CutPrefix(attr, string(ix.Name)); ok && (rest == AttrPK || rest == AttrSK) {
			return true
		}
	}
	return false
}
