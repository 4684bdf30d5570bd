package e2e

import (
	"os"
	"regexp"
	"testing"

	"github.com/gustflow/gust/internal/dynamotest"
)

// TestPinsAgree compares versions that are written down more than once. It needs no LocalStack.
func TestPinsAgree(t *testing.T) {
	t.Parallel()
	find := func(file, expression string) string {
		t.Helper()
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		m := regexp.MustCompile(expression).FindSubmatch(b)
		if m == nil {
			t.Fatalf("%s: nothing matches %s", file, expression)
		}
		return string(m[1])
	}
	for name, versions := range map[string][]string{
		"LocalStack": {
			find("../requirements.lock", `(?m)^localstack-core==(.*)$`), find("../compose.yaml", `image: localstack/localstack:(.*)`),
			find("../lib.sh", `localstack/localstack:(\S+)`), find("../README.md", `LocalStack \*\*core ([0-9.]+)\*\*`),
		},
		"DynamoDB Local": {find("../pom.xml", `DynamoDBLocal</artifactId>\s*<version>(.*)</version>`), dynamotest.Version},
		"aws-cdk":        {find("../../infra/package.json", `"aws-cdk": "(.*)"`), find("../README.md", "`aws-cdk` \\*\\*([0-9.]+)\\*\\*")},
		"CDK for Go":     {find("../../infra/go.mod", `aws-cdk-go/awscdk/v2 (v\S+)`), find("../README.md", `awscdk/v2 (v[0-9.]+)`)},
	} {
		for _, v := range versions[1:] {
			if v != versions[0] {
				t.Errorf("%s: pinned as %q", name, versions)
				break
			}
		}
	}
}
