package store

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/store/kv"
)

// Numbers are what the API names things by that Airflow's database numbers
// (assets): 1, 2, … in the order in which they were first asked for, and for
// ever. Two items each:
//
//	NUMBER#<scope>#N#<name>    the number of a name
//	NUMBER#<scope>#I#<number>  the name of a number
const kindNumber = "NUMBER"

// Number is the number of a name.
type Number struct {
	N    int64     `json:"n"`
	Name []string  `json:"name"`
	At   time.Time `json:"at"` // when it was given
}

func numberKey(scope string, name []string) kv.Key {
	return kv.Key{PK: joinKey(append([]string{kindNumber, scope, "N"}, name...)...), SK: skMeta}
}

func numberedKey(scope string, n int64) kv.Key {
	return kv.Key{PK: joinKey(kindNumber, scope, "I", strconv.FormatInt(n, 10)), SK: skMeta}
}

// counterKey holds a number that is not above the next free one.
func counterKey(scope string) kv.Key {
	return kv.Key{PK: joinKey(kindNumber, scope), SK: skMeta}
}

// NumberOf returns the number of a name, which it is given if it has none.
func (s *Store) NumberOf(ctx context.Context, scope string, name []string, now time.Time) (Number, error) {
	var out Number
	if _, err := s.getDoc(ctx, numberKey(scope, name), &out); !isNotFound(err) {
		return out, err
	}
	for range UpdateAttempts {
		var last Number
		it, err := s.getDoc(ctx, counterKey(scope), &last)
		counted := kv.NotExists()
		switch {
		case err == nil:
			counted = kv.Eq(attrDoc, it.Attrs[attrDoc])
		case !isNotFound(err):
			return out, err
		}
		out = Number{N: last.N + 1, Name: name, At: now}
		err = s.kv.Transact(ctx, "", []kv.Op{
			kv.Put(entity(numberKey(scope, name), marshal(out), nil), kv.NotExists()),
			kv.Put(entity(counterKey(scope), marshal(Number{N: out.N}), nil), counted),
			kv.Put(entity(numberedKey(scope, out.N), marshal(out), nil), kv.Cond{}),
		})
		if err == nil {
			return out, nil
		}
		if !errors.Is(err, kv.ErrConditionFailed) {
			return out, translate(err)
		}
		// Somebody has numbered it, or something else, meanwhile.
		if _, err := s.getDoc(ctx, numberKey(scope, name), &out); !isNotFound(err) {
			return out, err
		}
	}
	return out, fmt.Errorf("%w: numbers of %s", airflow.ErrConflict, scope)
}

// NumberedAs returns what has a number, or ErrNotFound.
func (s *Store) NumberedAs(ctx context.Context, scope string, n int64) (Number, error) {
	var out Number
	_, err := s.getDoc(ctx, numberedKey(scope, n), &out)
	return out, err
}

// ListAssetsPage lists assets, aliases and references by name, those with a prefix.
func (s *Store) ListAssetsPage(ctx context.Context, prefix string, o ListOptions) ([]AssetRecord, string, error) {
	return listIndex(ctx, s, kv.GSI1, allOf(kindAsset), o.named(prefix), docReader[AssetRecord])
}
