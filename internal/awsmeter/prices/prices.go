// Package prices is the one table of AWS prices that Gust computes with: a dated
// file of list prices of one region, without any free tier. It imports nothing of
// Gust, so that infra can use it too.
package prices

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"sync"
)

//go:embed us-east-1-2026.json
var usEast1 []byte

// Item names what is billed; the constants are all there are.
type Item string

// The items.
const (
	DynamoDBWriteUnits   Item = "dynamodb_write_units"
	DynamoDBReadUnits    Item = "dynamodb_read_units"
	DynamoDBStorage      Item = "dynamodb_storage"
	DynamoDBPITR         Item = "dynamodb_pitr"
	SQSRequests          Item = "sqs_requests"
	SQSFIFORequests      Item = "sqs_fifo_requests"
	LambdaRequests       Item = "lambda_requests"
	LambdaGBSecondsARM   Item = "lambda_gb_seconds_arm64"
	LambdaGBSecondsX86   Item = "lambda_gb_seconds_x86_64"
	S3Puts               Item = "s3_puts"
	S3Gets               Item = "s3_gets"
	S3Storage            Item = "s3_storage"
	LogsIngest           Item = "logs_ingest"
	LogsStorage          Item = "logs_storage"
	LogsInsights         Item = "logs_insights"
	EventBridgeRules     Item = "eventbridge_rule_invocations"
	EventBridgeEvents    Item = "eventbridge_custom_events"
	EventBridgeScheduler Item = "eventbridge_scheduler"
	SecretsRequests      Item = "secretsmanager_requests"
	SecretsSecrets       Item = "secretsmanager_secrets"
	SSMRequests          Item = "ssm_requests"
	KMSKeys              Item = "kms_keys"
	KMSRequests          Item = "kms_requests"
	CloudWatchMetrics    Item = "cloudwatch_metrics"
	CloudWatchAlarms     Item = "cloudwatch_alarms"
	CloudWatchDashboards Item = "cloudwatch_dashboards"
	ECSRunTask           Item = "ecs_run_task"
	FargateVCPUHoursX86  Item = "fargate_vcpu_hours_x86_64"
	FargateGBHoursX86    Item = "fargate_gb_hours_x86_64"
	FargateVCPUHoursARM  Item = "fargate_vcpu_hours_arm64"
	FargateGBHoursARM    Item = "fargate_gb_hours_arm64"
	HTTPAPIRequests      Item = "http_api_requests"
)

// Price is what an item costs.
type Price struct {
	USD  float64 `json:"usd"`  // for Per units
	Per  float64 `json:"per"`  // number of units
	Unit string  `json:"unit"` // in words, plural
	// Sure is how well the figure is known: V seen in AWS documentation, S in a
	// dated secondary source, R recalled.
	Sure string `json:"sure"`
}

// Table is a price list.
type Table struct {
	Region   string         `json:"region"`
	Currency string         `json:"currency"`
	AsOf     string         `json:"as_of"` // year and month
	About    string         `json:"about"`
	Prices   map[Item]Price `json:"prices"`
}

// Read reads a price list and checks it.
func Read(b []byte) (*Table, error) {
	var t Table
	if err := json.Unmarshal(b, &t); err != nil {
		return nil, fmt.Errorf("prices: %w", err)
	}
	if t.Region == "" || t.AsOf == "" || t.Currency != "USD" || len(t.Prices) == 0 {
		return nil, fmt.Errorf("prices: expected region, as_of, currency USD and prices")
	}
	for item, p := range t.Prices {
		if p.Per <= 0 || p.USD < 0 || p.Unit == "" {
			return nil, fmt.Errorf("prices: %s: expected usd of at least 0, per above 0 and a unit", item)
		}
	}
	return &t, nil
}

// Default is the table of us-east-1.
var Default = sync.OnceValue(func() *Table {
	t, err := Read(usEast1)
	if err != nil {
		panic(err) // the file is part of the program
	}
	return t
})

// Of returns the price of an item; asking for one that is not in the table is a
// mistake of the program.
func (t *Table) Of(i Item) Price {
	p, ok := t.Prices[i]
	if !ok {
		panic(fmt.Sprintf("prices: no price of %q in the table of %s, %s", i, t.Region, t.AsOf))
	}
	return p
}

// Cost returns what n units of an item cost, in US dollars.
func (t *Table) Cost(i Item, n float64) float64 {
	p := t.Of(i)
	return n * p.USD / p.Per
}
