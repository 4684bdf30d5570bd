package dynamokv

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/gustflow/gust/internal/store/kv"
)

// attrs is an item as the service has it.
type attrs = map[string]types.AttributeValue

// noExpiry is the value of the expiry attribute that stands for none. It is no number, so that the service ignores it.
const noExpiry = "-"

func str(s string) types.AttributeValue { return &types.AttributeValueMemberS{Value: s} }

func num(n int64) types.AttributeValue {
	return &types.AttributeValueMemberN{Value: strconv.FormatInt(n, 10)}
}

func indexPK(name kv.IndexName) string { return string(name) + kv.AttrPK }
func indexSK(name kv.IndexName) string { return string(name) + kv.AttrSK }

func encodeKey(k kv.Key) attrs { return attrs{kv.AttrPK: str(k.PK), kv.AttrSK: str(k.SK)} }

func encodeValue(v kv.Value) types.AttributeValue {
	switch v.Kind() {
	case kv.KindInt:
		return num(v.Int())
	case kv.KindBytes:
		return &types.AttributeValueMemberB{Value: v.Bytes()}
	case kv.KindBool:
		return &types.AttributeValueMemberBOOL{Value: v.Bool()}
	}
	return str(v.Str())
}

func encodeItem(key kv.Key, it kv.Item) attrs {
	out := make(attrs, 3+len(it.Attrs)+2*len(it.Index))
	out[kv.AttrPK], out[kv.AttrSK] = str(key.PK), str(key.SK)
	for name, v := range it.Attrs {
		out[name] = encodeValue(v)
	}
	for name, k := range it.Index {
		out[indexPK(name)], out[indexSK(name)] = str(k.PK), str(k.SK)
	}
	if it.ExpiresAt != 0 {
		out[kv.AttrExpiresAt] = num(it.ExpiresAt)
	}
	return out
}

// decodeItem returns the item of an answer; only is the index that was queried, or "". Errors are kv.ErrCorrupt: the
// table has content that this program did not write.
func (s *Store) decodeItem(in attrs, only kv.IndexName) (kv.Item, error) {
	var it kv.Item
	var err error
	it.Key, err = decodeKey(in, kv.AttrPK, kv.AttrSK)
	if err != nil {
		return kv.Item{}, err
	}
	for _, ix := range s.schema.Indexes {
		pk, sk := indexPK(ix.Name), indexSK(ix.Name)
		if in[pk] == nil && in[sk] == nil || only != "" && only != ix.Name {
			continue
		}
		k, err := decodeKey(in, pk, sk)
		if err != nil {
			return kv.Item{}, fmt.Errorf("item %v: %w", it.Key, err)
		}
		if it.Index == nil {
			it.Index = make(map[kv.IndexName]kv.Key, len(s.schema.Indexes))
		}
		it.Index[ix.Name] = k
	}
	for name, av := range in {
		if s.ours[name] {
			continue
		}
		v, err := decodeValue(av)
		if err != nil {
			return kv.Item{}, fmt.Errorf("item %v: attribute %q: %w", it.Key, name, err)
		}
		if it.Attrs == nil {
			it.Attrs = make(map[string]kv.Value, len(in))
		}
		it.Attrs[name] = v
	}
	if av, ok := in[kv.AttrExpiresAt]; ok && only == "" {
		v, err := decodeValue(av)
		if err != nil || v.Kind() != kv.KindInt && v != kv.String(noExpiry) {
			return kv.Item{}, fmt.Errorf("item %v: %w: attribute %q is not a Unix time", it.Key, kv.ErrCorrupt, kv.AttrExpiresAt)
		}
		it.ExpiresAt = v.Int()
	}
	return it, nil
}

func decodeKey(in attrs, pk, sk string) (kv.Key, error) {
	p, ok1 := in[pk].(*types.AttributeValueMemberS)
	s, ok2 := in[sk].(*types.AttributeValueMemberS)
	if !ok1 || !ok2 {
		return kv.Key{}, fmt.Errorf("%w: an item without text in %q and %q", kv.ErrCorrupt, pk, sk)
	}
	return kv.Key{PK: p.Value, SK: s.Value}, nil
}

func decodeValue(av types.AttributeValue) (kv.Value, error) {
	switch v := av.(type) {
	case *types.AttributeValueMemberS:
		return kv.String(v.Value), nil
	case *types.AttributeValueMemberB:
		return kv.Bytes(v.Value), nil
	case *types.AttributeValueMemberBOOL:
		return kv.Bool(v.Value), nil
	case *types.AttributeValueMemberN:
		n, err := strconv.ParseInt(v.Value, 10, 64)
		if err != nil {
			return kv.Value{}, fmt.Errorf("%w: the number %s is not an int64", kv.ErrCorrupt, v.Value)
		}
		return kv.Int(n), nil
	}
	return kv.Value{}, fmt.Errorf("%w: a value of type %s, which this program does not write", kv.ErrCorrupt,
		strings.TrimPrefix(fmt.Sprintf("%T", av), "*types.AttributeValueMember"))
}
