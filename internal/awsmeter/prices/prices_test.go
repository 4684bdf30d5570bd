package prices

import (
	"go/ast"
	"go/parser"
	"go/token"
	"math"
	"strconv"
	"strings"
	"testing"
)

// TestEveryItemHasAPrice: constants and file name the same items.
func TestEveryItemHasAPrice(t *testing.T) {
	f, err := parser.ParseFile(token.NewFileSet(), "prices.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	named := map[Item]bool{}
	ast.Inspect(f, func(n ast.Node) bool {
		if v, ok := n.(*ast.ValueSpec); ok && len(v.Values) == 1 {
			if id, ok := v.Type.(*ast.Ident); ok && id.Name == "Item" {
				s, err := strconv.Unquote(v.Values[0].(*ast.BasicLit).Value)
				if err != nil {
					t.Fatal(err)
				}
				named[Item(s)] = true
			}
		}
		return true
	})
	if len(named) < 20 {
		t.Fatalf("only %d constants found", len(named))
	}
	for i := range named {
		if _, ok := Default().Prices[i]; !ok {
			t.Errorf("%s has no price", i)
		}
	}
	for i, p := range Default().Prices {
		if !named[i] {
			t.Errorf("%s has a price and no constant", i)
		}
		if !strings.Contains("VSR", p.Sure) || p.Sure == "" {
			t.Errorf("%s: sure is %q", i, p.Sure)
		}
	}
}

func TestCost(t *testing.T) {
	for _, c := range []struct {
		i    Item
		n    float64
		want float64
	}{{DynamoDBWriteUnits, 1e6, 0.625}, {S3Puts, 1e6, 5}, {SecretsRequests, 1e6, 5}, {LambdaGBSecondsARM, 1, 0.0000133334}} {
		if got := Default().Cost(c.i, c.n); math.Abs(got-c.want) > 1e-9 {
			t.Errorf("%v %s cost %v, want %v", c.n, c.i, got, c.want)
		}
	}
}

func TestReadRefuses(t *testing.T) {
	for _, s := range []string{``, `{}`, `{"region":"r","as_of":"2026-01","currency":"EUR","prices":{"a":{"usd":1,"per":1,"unit":"x"}}}`, `{"region":"r","as_of":"2026-01","currency":"USD","prices":{"a":{"usd":1,"per":0,"unit":"x"}}}`} {
		if _, err := Read([]byte(s)); err == nil {
			t.Errorf("%s was read", s)
		}
	}
}
