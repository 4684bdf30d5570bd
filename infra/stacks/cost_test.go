package stacks_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/gustflow/gust/infra/idlecost"
	"github.com/gustflow/gust/internal/awsmeter/prices"
)

// bounds are what a month without a single task may cost, in US dollars.
var bounds = map[string]float64{"dev": 2, "prod": 8, "minimal-vpc": 2}

// TestCostIdle prints the bill of an idle month of every stage and holds it
// against its bound: go test ./stacks -run Cost -v.
func TestCostIdle(t *testing.T) {
	var doc strings.Builder
	for _, variant := range variants {
		d := synth(t, variant)
		bill, err := idlecost.Of(idlecost.Default(), d.templates()...)
		if err != nil {
			t.Errorf("%s: %v", variant, err)
			continue
		}
		t.Logf("%s, profile %s:\n%s", variant, d.cfg.Profile, bill.Markdown())
		if bound, ok := bounds[variant]; ok && bill.Sum() > bound {
			t.Errorf("%s: an idle month costs $%.2f, more than $%.2f", variant, bill.Sum(), bound)
		}
		if variant == "dev" || variant == "prod" {
			fmt.Fprintf(&doc, "Profile `%s` (stage %s as it is, bound $%.0f):\n\n%s\n", d.cfg.Profile, variant, bounds[variant], bill.Markdown())
		}
	}
	section(t, "docs/aws.md", "idle-cost", fmt.Sprintf("Prices of %s, as of %s. V: seen in AWS documentation, S: in a dated secondary source, R: recalled.\n\n%s",
		prices.Default().Region, prices.Default().AsOf, doc.String()))
}

// TestCostKnowsEveryType: the bill knows what it does not know.
func TestCostKnowsEveryType(t *testing.T) {
	d := synth(t, "dev")
	for id, r := range d.control.Resources {
		if r.Type == "AWS::Lambda::Url" {
			r.Type = "AWS::EC2::NatGateway"
			d.control.Resources[id] = r
			_, err := idlecost.Of(idlecost.Default(), d.templates()...)
			r.Type = "AWS::Lambda::Url"
			d.control.Resources[id] = r
			if err == nil || !strings.Contains(err.Error(), "AWS::EC2::NatGateway") {
				t.Errorf("a NAT gateway cost nothing: %v", err)
			}
			return
		}
	}
	t.Fatal("no function URL in the template")
}
