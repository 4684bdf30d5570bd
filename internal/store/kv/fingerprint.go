package kv

import (
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"maps"
	"slices"
)

// Fingerprint identifies a list of operations, so that an embedded driver can tell a repeated transaction from a reused
// token. It is stable across processes and versions: embedded drivers store it.
func Fingerprint(ops []Op) [32]byte {
	f := fingerprinter{h: sha256.New()}
	f.num(int64(len(ops)))
	for _, op := range ops {
		f.op(op)
	}
	var out [32]byte
	f.h.Sum(out[:0])
	return out
}

type fingerprinter struct {
	h   hash.Hash
	buf [8]byte
}

func (f *fingerprinter) num(n int64) {
	binary.BigEndian.PutUint64(f.buf[:], uint64(n))
	f.h.Write(f.buf[:])
}

func (f *fingerprinter) str(s string) {
	f.num(int64(len(s)))
	f.h.Write([]byte(s))
}

func (f *fingerprinter) key(k Key) {
	f.str(k.PK)
	f.str(k.SK)
}

func (f *fingerprinter) value(v Value) {
	f.num(int64(v.kind))
	f.num(v.n)
	f.str(v.s)
}

func (f *fingerprinter) op(op Op) {
	f.num(int64(op.Kind))
	f.key(op.ItemKey())
	f.num(int64(len(op.Item.Attrs)))
	for _, name := range slices.Sorted(maps.Keys(op.Item.Attrs)) {
		f.str(name)
		f.value(op.Item.Attrs[name])
	}
	f.num(int64(len(op.Item.Index)))
	for _, name := range slices.Sorted(maps.Keys(op.Item.Index)) {
		f.str(string(name))
		f.key(op.Item.Index[name])
	}
	f.num(op.Item.ExpiresAt)
	f.num(int64(len(op.Sets)))
	for _, s := range op.Sets {
		f.num(int64(s.Kind))
		f.str(s.Attr)
		f.value(s.Value)
	}
	f.num(int64(len(op.Indexes)))
	for _, c := range op.Indexes {
		f.str(string(c.Index))
		f.key(c.Key)
	}
	f.num(-1)
	if op.ExpiresAt != nil {
		f.num(*op.ExpiresAt)
	}
	f.cond(op.Cond)
}

func (f *fingerprinter) cond(c Cond) {
	f.num(int64(c.Op))
	f.str(c.Attr)
	f.value(c.Value)
	f.num(int64(len(c.Args)))
	for _, a := range c.Args {
		f.cond(a)
	}
}
