package dynamokv

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"pgregory.net/rapid"

	"github.com/gustflow/gust/internal/store/kv"
)

func testStore(t testing.TB) *Store {
	t.Helper()
	s := &Store{table: "t", schema: kv.DefaultSchema(), ours: map[string]bool{}}
	for _, name := range []string{"pk", "sk", "ttl", "gsi1pk", "gsi1sk", "gsi2pk", "gsi2sk"} {
		s.ours[name] = true
	}
	return s
}

func TestExpressions(t *testing.T) {
	k := kv.Key{PK: "p", SK: "s"}
	eq, lt := kv.Eq("a", kv.Int(1)), kv.Lt("b", kv.String("x"))
	for _, c := range []struct {
		op           kv.Op
		cond, change string
	}{
		{kv.Delete(k, kv.Cond{}), "", ""},
		{kv.Delete(k, kv.Exists()), "attribute_exists(#0)", ""},
		{kv.Delete(k, kv.And(eq, lt, kv.Missing("a"))), "#0 = :0 AND #1 < :1 AND attribute_not_exists(#0)", ""},
		{kv.Delete(k, kv.Or(kv.And(eq, lt), kv.Not(kv.Or(eq, lt)))), "(#0 = :0 AND #1 < :1) OR NOT (#0 = :0 OR #1 < :1)", ""},
		{kv.Delete(k, kv.Not(kv.Not(eq))), "NOT (NOT (#0 = :0))", ""},
		{kv.Delete(k, kv.Not(kv.Cond{Op: kv.CondAnd, Args: []kv.Cond{{Op: kv.CondOr, Args: []kv.Cond{eq}}}})), "NOT (#0 = :0)", ""},
		{kv.Update(k, kv.Exists(), kv.Assign("size", kv.Int(1)), kv.Remove("a.b"), kv.Assign("c", kv.Int(1))), "attribute_exists(#0)", "SET #1 = :0, #3 = :0 REMOVE #2"},
		{kv.Update(k, kv.Cond{}, kv.Add("n", 2)), "attribute_not_exists(#0) OR #0 <= :0", "ADD #0 :1"},
		{kv.Update(k, kv.Or(eq, lt), kv.Add("n", -2)), "(#0 = :0 OR #1 < :1) AND (attribute_not_exists(#2) OR #2 >= :2)", "ADD #2 :3"},
		{kv.Update(k, kv.Exists()).WithIndex(kv.GSI1, kv.Key{}).WithIndex(kv.GSI2, kv.Key{PK: "i", SK: "1"}).WithExpiry(0), "attribute_exists(#0)", "SET #3 = :0, #4 = :1 REMOVE #1, #2, #5"},
		// Where the item may be absent, removing alone would not create it.
		{kv.Update(k, kv.Cond{}, kv.Remove("a")), "", "SET #1 = if_not_exists(#1, :0) REMOVE #0"},
		{kv.Update(k, kv.Cond{}, kv.Remove("a")).WithExpiry(0), "", "SET #1 = :0 REMOVE #0"},
		{kv.Update(k, kv.Missing("a")).WithExpiry(0), "attribute_not_exists(#0)", "SET #1 = :0"},
		{kv.Update(k, kv.Cond{}, kv.Remove("a"), kv.Assign("b", kv.Int(1))), "", "SET #1 = :0 REMOVE #0"},
		{kv.Update(k, kv.Present("a"), kv.Remove("a")), "attribute_exists(#0)", "REMOVE #0"},
	} {
		e := &expr{}
		cond := e.guarded(c.op)
		change := ""
		if c.op.Kind == kv.OpUpdate {
			change = e.update(c.op)
		}
		if cond != c.cond || change != c.change {
			t.Errorf("%+v:\n %q %q, want\n %q %q", c.op, cond, change, c.cond, c.change)
		}
	}
}

// TestEverythingIsAliased renders random operations whose names and values are words of the language of expressions.
func TestEverythingIsAliased(t *testing.T) {
	allowed := regexp.MustCompile(`#[0-9a-z]+|:[0-9a-z]+|\b(attribute_not_exists|attribute_exists|if_not_exists|AND|OR|NOT|SET|REMOVE|ADD)\b|[(), =<>]`)
	rapid.Check(t, func(rt *rapid.T) {
		op := genOp().Draw(rt, "op")
		e := &expr{}
		text := e.guarded(op) + " " + e.update(op)
		if rest := allowed.ReplaceAllString(text, ""); rest != "" {
			rt.Fatalf("%q is left of %q", rest, text)
		}
		for alias := range e.names {
			if !strings.Contains(text, alias) {
				rt.Fatalf("%s is not used in %q: the service refuses that", alias, text)
			}
		}
		for alias := range e.values {
			if !strings.Contains(text, alias) {
				rt.Fatalf("%s is not used in %q: the service refuses that", alias, text)
			}
		}
		if redundantParentheses(text) {
			rt.Fatalf("redundant parentheses in %q: the service refuses them", text)
		}
	})
}

// redundantParentheses reports whether a pair of parentheses holds nothing but another pair.
func redundantParentheses(text string) bool {
	match := map[int]int{}
	var open []int
	for i, c := range text {
		switch c {
		case '(':
			open = append(open, i)
		case ')':
			match[open[len(open)-1]] = i
			open = open[:len(open)-1]
		}
	}
	for from, to := range match {
		if inner, ok := match[from+1]; ok && inner == to-1 {
			return true
		}
	}
	return false
}

func TestRedundantParentheses(t *testing.T) {
	for text, want := range map[string]bool{"((a))": true, "((a) AND b)": false, "((a AND b) OR c) AND (d)": false, "NOT ((a OR b))": true, "(a)": false} {
		if got := redundantParentheses(text); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
}

var words = []string{"a", "size", "AND"}

func genValue() *rapid.Generator[kv.Value] {
	return rapid.Custom(func(rt *rapid.T) kv.Value {
		switch rapid.IntRange(0, 4).Draw(rt, "kind") {
		case 0:
			return kv.String(rapid.SampledFrom(words).Draw(rt, "string"))
		case 1:
			return kv.Bool(rapid.Bool().Draw(rt, "bool"))
		}
		return kv.Int(rapid.Int64Range(-2, 2).Draw(rt, "int"))
	})
}

func genCond(depth int) *rapid.Generator[kv.Cond] {
	return rapid.Custom(func(rt *rapid.T) kv.Cond {
		most := 12
		if depth == 0 {
			most = 8
		}
		attr := rapid.SampledFrom(words).Draw(rt, "attr")
		sub := func() kv.Cond { return genCond(depth-1).Draw(rt, "sub") }
		ordered := func() kv.Value {
			if v := genValue().Draw(rt, "value"); v.Kind() != kv.KindBool {
				return v
			}
			return kv.Int(0)
		}
		switch rapid.IntRange(0, most).Draw(rt, "cond") {
		case 0:
			return kv.Exists()
		case 1:
			return kv.NotExists()
		case 2:
			return kv.Present(attr)
		case 3:
			return kv.Missing(attr)
		case 4:
			return kv.Lt(attr, ordered())
		case 5:
			return kv.Le(attr, ordered())
		case 6:
			return kv.Gt(attr, ordered())
		case 7:
			return kv.Ge(attr, ordered())
		case 9:
			return kv.And(sub(), sub())
		case 10:
			return kv.Or(sub(), sub())
		case 11:
			return kv.Not(sub())
		}
		return kv.Eq(attr, genValue().Draw(rt, "value"))
	})
}

func genOp() *rapid.Generator[kv.Op] {
	return rapid.Custom(func(rt *rapid.T) kv.Op {
		k := kv.Key{PK: "p", SK: "s"}
		cond := genCond(2).Draw(rt, "cond")
		switch rapid.IntRange(0, 3).Draw(rt, "kind") {
		case 0:
			it := kv.Item{Key: k, Attrs: rapid.MapOfN(rapid.SampledFrom(words), genValue(), 0, 3).Draw(rt, "attrs")}
			return kv.Put(it, cond)
		case 1:
			return kv.Delete(k, cond)
		}
		op := kv.Update(k, cond)
		for _, attr := range rapid.SliceOfNDistinct(rapid.SampledFrom(words), 0, 3, rapid.ID).Draw(rt, "sets") {
			switch rapid.IntRange(0, 2).Draw(rt, "set") {
			case 0:
				op.Sets = append(op.Sets, kv.Assign(attr, genValue().Draw(rt, "to")))
			case 1:
				op.Sets = append(op.Sets, kv.Remove(attr))
			case 2:
				op.Sets = append(op.Sets, kv.Add(attr, rapid.Int64Range(-2, 2).Draw(rt, "by")))
			}
		}
		return op
	})
}

// TestSelfDefeating checks the promise on which repeating a write rests: where it holds, an operation that was applied
// cannot be applied again.
func TestSelfDefeating(t *testing.T) {
	found := map[kv.OpKind]int{}
	rapid.Check(t, func(rt *rapid.T) {
		for range 50 {
			op := genOp().Draw(rt, "op")
			var cur *kv.Item
			if rapid.IntRange(0, 4).Draw(rt, "there") > 0 {
				cur = &kv.Item{Key: op.Key, Attrs: rapid.MapOfN(rapid.SampledFrom(words), genValue(), 0, 3).Draw(rt, "item")}
			}
			if !selfDefeating(op) || !op.Cond.Holds(cur) {
				continue
			}
			next, err := op.Apply(cur)
			if err != nil {
				continue
			}
			found[op.Kind]++
			if op.Cond.Holds(next) {
				rt.Fatalf("%+v on %v leaves %v, on which it can be done again", op, cur, next)
			}
		}
	})
	if found[kv.OpPut] == 0 || found[kv.OpUpdate] == 0 || found[kv.OpDelete] == 0 {
		t.Errorf("too few of them: %v", found)
	}
	k := kv.Key{PK: "p", SK: "s"}
	for what, op := range map[string]kv.Op{
		"create":            kv.Put(kv.Item{Key: k}, kv.NotExists()),
		"create by update":  kv.Update(k, kv.NotExists(), kv.Assign("a", kv.Int(1))),
		"step of a version": kv.Put(kv.Item{Key: k, Attrs: map[string]kv.Value{"v": kv.Int(2)}}, kv.Eq("v", kv.Int(1))),
		"counted version":   kv.Update(k, kv.And(kv.Exists(), kv.Eq("v", kv.Int(1))), kv.Add("v", 1)),
		"claim":             kv.Update(k, kv.And(kv.Or(kv.Missing("seq"), kv.Lt("seq", kv.Int(3))), kv.Present("row")), kv.Assign("seq", kv.Int(3))),
		"delete":            kv.Delete(k, kv.Exists()),
		"remove":            kv.Update(k, kv.Present("lease"), kv.Remove("lease")),
	} {
		if !selfDefeating(op) {
			t.Errorf("%s is not known to be harmless when repeated: %+v", what, op)
		}
	}
	for what, op := range map[string]kv.Op{
		"blind put":    kv.Put(kv.Item{Key: k}, kv.Cond{}),
		"blind delete": kv.Delete(k, kv.Cond{}),
		"addition":     kv.Update(k, kv.Exists(), kv.Add("n", 1)),
		"heartbeat":    kv.Update(k, kv.Eq("seq", kv.Int(3)), kv.Assign("beat", kv.Int(7))),
	} {
		if selfDefeating(op) {
			t.Errorf("%s counts as harmless: %+v", what, op)
		}
	}
}

func TestCancellationReasons(t *testing.T) {
	s := testStore(t)
	k := func(sk string) kv.Key { return kv.Key{PK: "p", SK: sk} }
	ops := []kv.Op{
		kv.Put(kv.Item{Key: k("0")}, kv.NotExists()),
		kv.Update(k("1"), kv.Exists(), kv.Add("n", math.MaxInt64)),
		kv.Check(k("2"), kv.Exists()),
	}
	reason := func(code string, item attrs) types.CancellationReason {
		return types.CancellationReason{Code: aws.String(code), Message: aws.String("because"), Item: item}
	}
	ok := types.CancellationReason{Code: aws.String("None")}
	for name, c := range map[string]struct {
		reasons []types.CancellationReason
		want    error
		op      int
		class   class
		item    bool
	}{
		"condition":                 {[]types.CancellationReason{ok, ok, reason("ConditionalCheckFailed", nil)}, kv.ErrConditionFailed, 2, final, false},
		"condition with item":       {[]types.CancellationReason{reason("ConditionalCheckFailed", encodeKey(k("0"))), ok, reason("ConditionalCheckFailed", nil)}, kv.ErrConditionFailed, 0, final, true},
		"guard of an addition":      {[]types.CancellationReason{ok, reason("ConditionalCheckFailed", encodeItem(k("1"), kv.Item{Attrs: map[string]kv.Value{"n": kv.Int(1)}})), ok}, kv.ErrInvalid, 1, final, false},
		"too large":                 {[]types.CancellationReason{ok, {Code: aws.String("ValidationError"), Message: aws.String("Item size to update has exceeded the maximum allowed size")}, ok}, kv.ErrTooLarge, 1, final, false},
		"invalid":                   {[]types.CancellationReason{ok, {Code: aws.String("ValidationError"), Message: aws.String("An operand has an incorrect data type")}, ok}, kv.ErrInvalid, 1, final, false},
		"conflict":                  {[]types.CancellationReason{ok, reason("TransactionConflict", nil), ok}, kv.ErrTransactionConflict, 1, waiting, false},
		"conflict before condition": {[]types.CancellationReason{ok, reason("TransactionConflict", nil), reason("ConditionalCheckFailed", nil)}, kv.ErrConditionFailed, 2, final, false},
		"throttled":                 {[]types.CancellationReason{ok, ok, reason("ThrottlingError", nil)}, kv.ErrThrottled, 2, waiting, false},
		"capacity":                  {[]types.CancellationReason{reason("ProvisionedThroughputExceeded", nil), ok, ok}, kv.ErrThrottled, 0, waiting, false},
	} {
		cl, err := s.cancelled(ops, &types.TransactionCanceledException{CancellationReasons: c.reasons})
		var ce *kv.CancelError
		if !errors.Is(err, c.want) || !errors.As(err, &ce) || ce.Op != c.op || ce.Key != ops[c.op].ItemKey() || cl != c.class || !kv.NotApplied(err) {
			t.Errorf("%s: %v, class %d; want %v of operation %d, class %d", name, err, cl, c.want, c.op, c.class)
		}
		var cf *kv.ConditionFailedError
		if errors.As(err, &cf) && (cf.Item != nil) != c.item {
			t.Errorf("%s: item %v", name, cf.Item)
		}
	}
	if cl, err := s.cancelled(ops, &types.TransactionCanceledException{}); cl != waiting || !errors.Is(err, kv.ErrTransactionConflict) {
		t.Errorf("no reasons: %v, class %d", err, cl)
	}
}

// TestForeignContent decodes what this program does not write.
func TestForeignContent(t *testing.T) {
	s := testStore(t)
	key := encodeKey(kv.Key{PK: "p", SK: "s"})
	for name, more := range map[string]attrs{
		"a fraction":          {"n": &types.AttributeValueMemberN{Value: "1.5"}},
		"a huge number":       {"n": &types.AttributeValueMemberN{Value: "9223372036854775808"}},
		"a list":              {"l": &types.AttributeValueMemberL{}},
		"a null":              {"x": &types.AttributeValueMemberNULL{Value: true}},
		"half an index entry": {"gsi1pk": str("x")},
		"an expiry in words":  {"ttl": str("tomorrow")},
		"a binary key":        {"pk": &types.AttributeValueMemberB{Value: []byte("p")}},
	} {
		in := attrs{}
		for _, m := range []attrs{key, more} {
			for k, v := range m {
				in[k] = v
			}
		}
		if it, err := s.decodeItem(in, ""); !errors.Is(err, kv.ErrCorrupt) {
			t.Errorf("%s: %v, %v; want %v", name, it, err, kv.ErrCorrupt)
		}
	}
	marked := attrs{"pk": str("p"), "sk": str("s"), "ttl": str(noExpiry)}
	if it, err := s.decodeItem(marked, ""); err != nil || it.ExpiresAt != 0 || len(it.Attrs) != 0 {
		t.Errorf("no expiry: %v, %v", it, err)
	}
}

func TestPosition(t *testing.T) {
	for _, c := range []struct {
		r    kv.Range
		sk   string
		want int
	}{
		{kv.Range{}, "x", 0}, {kv.Prefix("b"), "a", -1}, {kv.Prefix("b"), "b", 0}, {kv.Prefix("b"), "bz", 0}, {kv.Prefix("b"), "c", 1}, {kv.Prefix("bb"), "b", -1},
		{kv.Between("b", "d"), "a", -1}, {kv.Between("b", "d"), "b", 0}, {kv.Between("b", "d"), "d", 0}, {kv.Between("b", "d"), "da", 1},
		{kv.Between("", "d"), "a", 0}, {kv.Between("", "d"), "e", 1}, {kv.Between("b", ""), "a", -1}, {kv.Between("b", ""), "z", 0},
	} {
		if got := position(c.r, c.sk); got != c.want {
			t.Errorf("position of %q in %+v is %d, want %d", c.sk, c.r, got, c.want)
		}
	}
}

func TestTokens(t *testing.T) {
	a, b := testStore(t), testStore(t)
	b.table = "other"
	for _, token := range []string{"x", strings.Repeat("ü", 18), "with space"} {
		got := a.requestToken(token)
		if got != a.requestToken(token) || got == b.requestToken(token) || len(got) > kv.MaxTokenBytes {
			t.Errorf("token %q became %q", token, got)
		}
	}
	if x, y := a.requestToken(""), a.requestToken(""); x == y || len(x) > kv.MaxTokenBytes {
		t.Errorf("calls without a token have %q and %q", x, y)
	}
}

func TestNewRefuses(t *testing.T) {
	for _, o := range []Options{{}, {Table: "t"}} {
		if _, err := New(o); err == nil {
			t.Error(fmt.Sprintf("%+v", o), "was accepted")
		}
	}
}
