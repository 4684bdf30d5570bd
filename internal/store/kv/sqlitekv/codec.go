package sqlitekv

import (
	"encoding/binary"
	"fmt"
	"slices"
	"unsafe"

	"github.com/gustflow/gust/internal/store/kv"
)

// codecVersion is the first byte of a body. A body of another version is of another program or damaged: bodies change
// only together with the format of the file.
const codecVersion = 1

// encode appends the body of an item: its index entries and attributes, but not its key and expiry, which have columns.
//
//	version · #entries · (name · pk · sk)* · #attributes · (kind · name · value)*
//
// Numbers are varints, strings have their length in front, names are in order, so that equal items have equal bodies.
func encode(b []byte, it *kv.Item) []byte {
	b = append(b, codecVersion)
	b = binary.AppendUvarint(b, uint64(len(it.Index)))
	if len(it.Index) > 0 {
		var space [4]kv.IndexName
		names := space[:0]
		for name := range it.Index {
			names = append(names, name)
		}
		slices.Sort(names)
		for _, name := range names {
			k := it.Index[name]
			b = appendString(appendString(appendString(b, string(name)), k.PK), k.SK)
		}
	}
	return appendAttrs(b, it.Attrs)
}

func appendAttrs(b []byte, attrs map[string]kv.Value) []byte {
	b = binary.AppendUvarint(b, uint64(len(attrs)))
	var space [24]string
	names := space[:0]
	for name := range attrs {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		v := attrs[name]
		b = appendString(append(b, byte(v.Kind())), name)
		switch v.Kind() {
		case kv.KindString:
			b = appendString(b, v.Str())
		case kv.KindBytes:
			b = binary.AppendUvarint(b, uint64(len(v.Bytes())))
			b = append(b, v.Bytes()...)
		case kv.KindInt:
			b = binary.AppendVarint(b, v.Int())
		case kv.KindBool:
			if v.Bool() {
				b = append(b, 1)
			} else {
				b = append(b, 0)
			}
		}
	}
	return b
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// decode sets the index entries and attributes of it from a body. The strings and bytes of it share memory with body,
// which nobody may change afterwards. Whatever the bytes, it returns an item or kv.ErrCorrupt.
func decode(body []byte, it *kv.Item) error {
	d := decoder{b: body}
	if d.byte() != codecVersion {
		return corruptRow(it.Key, "is not in an encoding that this version knows")
	}
	if n := d.count(); n > 0 {
		it.Index = make(map[kv.IndexName]kv.Key, n)
		for range n {
			name := d.string()
			it.Index[kv.IndexName(name)] = kv.Key{PK: d.string(), SK: d.string()}
		}
	}
	if n := d.count(); n > 0 {
		it.Attrs = make(map[string]kv.Value, n)
		for range n {
			kind := kv.Kind(d.byte())
			name := d.string()
			switch kind {
			case kv.KindString:
				it.Attrs[name] = kv.String(d.string())
			case kv.KindBytes:
				it.Attrs[name] = kv.Bytes(d.bytes())
			case kv.KindInt:
				it.Attrs[name] = kv.Int(d.varint())
			case kv.KindBool:
				it.Attrs[name] = kv.Bool(d.byte() != 0)
			default:
				d.bad = true
			}
		}
	}
	if d.bad || len(d.b) != 0 {
		return corruptRow(it.Key, "cannot be decoded")
	}
	return nil
}

func corruptRow(key kv.Key, what string) error {
	return fmt.Errorf("%w: the row of item %v %s; run an integrity check and restore the file from a backup", kv.ErrCorrupt, key, what)
}

// decoder reads from the front of b; after the first mistake bad is set and everything read is zero.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) fail() {
	d.bad = true
	d.b = nil
}

func (d *decoder) byte() byte {
	if len(d.b) == 0 {
		d.fail()
		return 0
	}
	c := d.b[0]
	d.b = d.b[1:]
	return c
}

// count reads the number of things that follow, each of at least two bytes.
func (d *decoder) count() int {
	n, w := binary.Uvarint(d.b)
	if w <= 0 || n > uint64(len(d.b)-w)/2 {
		d.fail()
		return 0
	}
	d.b = d.b[w:]
	return int(n)
}

func (d *decoder) varint() int64 {
	n, w := binary.Varint(d.b)
	if w <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[w:]
	return n
}

func (d *decoder) bytes() []byte {
	n, w := binary.Uvarint(d.b)
	if w <= 0 || n > uint64(len(d.b)-w) {
		d.fail()
		return nil
	}
	out := d.b[w : w+int(n) : w+int(n)]
	d.b = d.b[w+int(n):]
	return out
}

func (d *decoder) string() string {
	b := d.bytes()
	return unsafe.String(unsafe.SliceData(b), len(b))
}

// blob returns the bytes of s without copying, for binding to a statement, which copies them.
func blob(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }
