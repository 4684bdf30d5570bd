// Package awslabel finds out whom an AWS call is for, from its input: DynamoDB's
// keys name runs and task instances, messages carry them, and so do the names of
// objects.
package awslabel

import (
	"encoding/json"
	"net/url"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/awsmeter"
	"github.com/gustflow/gust/internal/store"
	"github.com/gustflow/gust/internal/store/kv"
)

// Of is the Labels of a Meter.
func Of(_ awsmeter.Op, input any) []awsmeter.Label {
	switch in := input.(type) {
	case *dynamodb.GetItemInput:
		return item(in.Key)
	case *dynamodb.PutItemInput:
		return item(in.Item)
	case *dynamodb.UpdateItemInput:
		return item(in.Key)
	case *dynamodb.DeleteItemInput:
		return item(in.Key)
	case *dynamodb.QueryInput:
		if in.IndexName == nil {
			for _, v := range in.ExpressionAttributeValues {
				if l := value(v); l.RunID != "" { // a sort key is none
					return []awsmeter.Label{l}
				}
			}
		}
	case *dynamodb.BatchGetItemInput:
		var out []awsmeter.Label
		for _, keys := range in.RequestItems {
			for _, k := range keys.Keys {
				out = append(out, item(k)...)
			}
		}
		return out
	case *dynamodb.TransactWriteItemsInput:
		var out []awsmeter.Label
		for _, t := range in.TransactItems {
			switch {
			case t.Put != nil:
				out = append(out, item(t.Put.Item)...)
			case t.Update != nil:
				out = append(out, item(t.Update.Key)...)
			case t.Delete != nil:
				out = append(out, item(t.Delete.Key)...)
			case t.ConditionCheck != nil:
				out = append(out, item(t.ConditionCheck.Key)...)
			}
		}
		return run(out)
	case *sqs.SendMessageBatchInput:
		out := make([]awsmeter.Label, len(in.Entries))
		for i, e := range in.Entries {
			out[i] = Message(aws.ToString(e.MessageBody))
		}
		return out
	case *sqs.SendMessageInput:
		return []awsmeter.Label{Message(aws.ToString(in.MessageBody))}
	case *s3.PutObjectInput:
		return object(in.Key)
	case *s3.GetObjectInput:
		return object(in.Key)
	}
	return nil
}

// run attributes the parts of a transaction that are for nobody in particular, or
// for the DAG, to the run that the transaction is about: the reservation of its
// logical date belongs to its creation.
func run(labels []awsmeter.Label) []awsmeter.Label {
	var of *awsmeter.Label
	for i := range labels {
		if labels[i].RunID != "" {
			l := labels[i].Run()
			of = &l
			break
		}
	}
	for i := range labels {
		if of != nil && labels[i].RunID == "" {
			labels[i] = *of
		}
	}
	return labels
}

func item(key map[string]types.AttributeValue) []awsmeter.Label {
	return []awsmeter.Label{value(key[kv.AttrPK])}
}

func value(v types.AttributeValue) awsmeter.Label {
	s, ok := v.(*types.AttributeValueMemberS)
	if !ok {
		return awsmeter.Label{}
	}
	return Instance(store.Owner(s.Value))
}

// Instance is the label of a task instance, a run or a DAG.
func Instance(k airflow.TaskInstanceKey) awsmeter.Label {
	return awsmeter.Label{DagID: string(k.DagID), RunID: string(k.RunID), TaskID: string(k.TaskID), MapIndex: k.MapIndex}
}

// Message is the label of a message to the scheduler or to a worker.
func Message(body string) awsmeter.Label {
	var m struct {
		D, R, T string
		M       int
		Key     struct {
			DagID    string `json:"dag_id"`
			RunID    string `json:"run_id"`
			TaskID   string `json:"task_id"`
			MapIndex int    `json:"map_index"`
		}
	}
	if json.Unmarshal([]byte(body), &m) != nil {
		return awsmeter.Label{}
	}
	if m.Key.DagID != "" {
		return awsmeter.Label{DagID: m.Key.DagID, RunID: m.Key.RunID, TaskID: m.Key.TaskID, MapIndex: m.Key.MapIndex}
	}
	return awsmeter.Label{DagID: m.D, RunID: m.R, TaskID: m.T, MapIndex: m.M}
}

// object reads Airflow's layout of logs and XComs: dag_id=…/run_id=…/task_id=….
func object(key *string) []awsmeter.Label {
	var l awsmeter.Label
	for part := range strings.SplitSeq(aws.ToString(key), "/") {
		name, v, ok := strings.Cut(part, "=")
		if !ok {
			continue
		}
		if u, err := url.PathUnescape(v); err == nil {
			v = u
		}
		switch name {
		case "dag_id":
			l.DagID, l.MapIndex = v, airflow.Unmapped
		case "run_id":
			l.RunID = v
		case "task_id":
			l.TaskID = v
		case "map_index":
			if n, err := strconv.Atoi(v); err == nil {
				l.MapIndex = n
			}
		}
	}
	return []awsmeter.Label{l}
}
