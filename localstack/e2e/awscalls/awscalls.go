// Package awscalls turns calls that functions make into what IAM would be asked: action, resource and condition keys.
// LocalStack's core enforces no rights, so the end-to-end tests record what every function really does and compare it
// with the roles of the template (infra/cfn). It is used by tests only.
package awscalls

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"net/http"
	"net/url"
	"sort"
	"strings"
)

// Call is one HTTP request to AWS.
type Call struct {
	Service string // signing name
	Method  string
	Target  string // the X-Amz-Target header's operation, for services with JSON protocols
	Path    string
	Query   url.Values
	Header  http.Header
	Body    []byte
}

// Request is one question to IAM.
type Request struct {
	Action   string              `json:"action"`
	Resource string              `json:"resource"`
	Context  map[string][]string `json:"context,omitempty"`
}

// Place is where calls go.
type Place struct{ Account, Region string }

func (p Place) arn(service, resource string) string {
	return "arn:aws:" + service + ":" + p.Region + ":" + p.Account + ":" + resource
}

// Requests returns what IAM would be asked for a call. A call it does not know is an error: nothing may pass unseen.
func Requests(p Place, c Call) ([]Request, error) {
	var out []Request
	var err error
	switch c.Service {
	case "dynamodb":
		out, err = dynamodb(p, c)
	case "sqs":
		out, err = sqs(p, c)
	case "s3":
		out, err = s3(c)
	case "lambda":
		out, err = lambda(p, c)
	case "logs":
		var in struct{ LogGroupName, LogStreamName string }
		if err = json.Unmarshal(c.Body, &in); err == nil {
			out = []Request{{Action: "logs:" + c.Target, Resource: p.arn("logs", "log-group:"+in.LogGroupName+":log-stream:"+in.LogStreamName)}}
		}
	case "secretsmanager":
		var in struct{ SecretId string } //nolint:staticcheck // AWS's name
		if err = json.Unmarshal(c.Body, &in); err == nil {
			if !strings.HasPrefix(in.SecretId, "arn:") {
				in.SecretId = p.arn("secretsmanager", "secret:"+in.SecretId+"-abcdef")
			}
			out = []Request{{Action: "secretsmanager:" + c.Target, Resource: in.SecretId}}
		}
	case "ssm":
		var in struct{ Name string }
		if err = json.Unmarshal(c.Body, &in); err == nil {
			out = []Request{{Action: "ssm:" + c.Target, Resource: p.arn("ssm", "parameter/"+strings.TrimPrefix(in.Name, "/"))}}
		}
	}
	if err != nil || len(out) == 0 {
		return nil, fmt.Errorf("%s %s %s %s?%s is no call that package awscalls knows: %v", c.Service, c.Method, c.Target, c.Path, c.Query.Encode(), err)
	}
	return out, nil
}

// value is a DynamoDB attribute value that may be a key.
type value struct{ S string }

// dynamodb reads tables, indexes and leading keys. Items of a transaction are asked for one by one.
func dynamodb(p Place, c Call) ([]Request, error) {
	type item struct {
		TableName, IndexName      string
		Key, Item                 map[string]value
		KeyConditionExpression    string
		ExpressionAttributeNames  map[string]string
		ExpressionAttributeValues map[string]value
	}
	type keys struct{ Keys []map[string]value }
	var in struct {
		item
		RequestItems  map[string]keys
		TransactItems []map[string]item
	}
	if err := json.Unmarshal(c.Body, &in); err != nil {
		return nil, err
	}
	one := func(action string, it item) (Request, error) {
		r := Request{Action: "dynamodb:" + action, Resource: p.arn("dynamodb", "table/"+it.TableName)}
		if strings.HasPrefix(it.TableName, "arn:") {
			r.Resource = it.TableName
		}
		pk, attr := "", "pk"
		if it.IndexName != "" {
			r.Resource += "/index/" + it.IndexName
			attr = it.IndexName + "pk"
		}
		switch {
		case it.Key != nil:
			pk = it.Key[attr].S
		case it.Item != nil:
			pk = it.Item[attr].S
		case it.KeyConditionExpression != "":
			pk = partition(it.KeyConditionExpression, attr, it.ExpressionAttributeNames, it.ExpressionAttributeValues)
		}
		if pk == "" {
			return r, fmt.Errorf("no partition key in %.300s", c.Body)
		}
		r.Context = leading(pk)
		return r, nil
	}
	switch c.Target {
	case "TransactWriteItems":
		var out []Request
		for _, t := range in.TransactItems {
			for kind, it := range t {
				action, ok := map[string]string{"Put": "PutItem", "Update": "UpdateItem", "Delete": "DeleteItem", "ConditionCheck": "ConditionCheckItem"}[kind]
				if !ok {
					return nil, fmt.Errorf("transaction with %s", kind)
				}
				r, err := one(action, it)
				if err != nil {
					return nil, err
				}
				out = append(out, r)
			}
		}
		return out, nil
	case "BatchGetItem":
		var out []Request
		for table, ks := range in.RequestItems {
			var pks []string
			for _, k := range ks.Keys {
				pks = append(pks, k["pk"].S)
			}
			out = append(out, Request{Action: "dynamodb:BatchGetItem", Resource: p.arn("dynamodb", "table/"+table), Context: leading(pks...)})
		}
		return out, nil
	case "GetItem", "PutItem", "UpdateItem", "DeleteItem", "Query":
		r, err := one(c.Target, in.item)
		return []Request{r}, err
	}
	return nil, fmt.Errorf("operation %s", c.Target)
}

// partition finds the value that a key condition demands of the partition key: "#n0 = :v0 AND …".
func partition(expression, attr string, names map[string]string, values map[string]value) string {
	for _, part := range strings.Split(expression, " AND ") {
		name, v, ok := strings.Cut(strings.Trim(part, "() "), "=")
		if !ok {
			continue
		}
		name = strings.TrimSpace(name)
		if n, ok := names[name]; ok {
			name = n
		}
		if name == attr {
			return values[strings.TrimSpace(v)].S
		}
	}
	return ""
}

// leading is the condition key of partition keys. Only their kind matters to policies, and the whole key of the
// partitions of everything: other keys are shortened, so that equal questions are equal.
func leading(pks ...string) map[string][]string {
	seen := map[string]bool{}
	for _, pk := range pks {
		if kind, _, ok := strings.Cut(pk, "#"); ok && kind != "ALL" {
			pk = kind + "#x"
		}
		seen[pk] = true
	}
	out := make([]string, 0, len(seen))
	for pk := range seen {
		out = append(out, pk)
	}
	sort.Strings(out)
	return map[string][]string{"dynamodb:LeadingKeys": out}
}

func sqs(p Place, c Call) ([]Request, error) {
	var in struct{ QueueUrl string } //nolint:staticcheck // AWS's name
	if err := json.Unmarshal(c.Body, &in); err != nil {
		return nil, err
	}
	action := strings.TrimSuffix(c.Target, "Batch")
	return []Request{{Action: "sqs:" + action, Resource: p.arn("sqs", in.QueueUrl[strings.LastIndex(in.QueueUrl, "/")+1:])}}, nil
}

// s3 reads path-style requests. Object names are cut behind their first folder.
func s3(c Call) ([]Request, error) {
	bucket, key, _ := strings.Cut(strings.TrimPrefix(c.Path, "/"), "/")
	object := func(action, key string) Request {
		if first, _, ok := strings.Cut(key, "/"); ok {
			key = first + "/x"
		}
		return Request{Action: "s3:" + action, Resource: "arn:aws:s3:::" + bucket + "/" + key}
	}
	whole := func(action string) Request {
		r := Request{Action: "s3:" + action, Resource: "arn:aws:s3:::" + bucket}
		if prefix := c.Query.Get("prefix"); prefix != "" {
			r.Context = map[string][]string{"s3:prefix": {prefix}}
		}
		return r
	}
	version := ""
	if c.Query.Get("versionId") != "" {
		version = "Version"
	}
	switch {
	case key == "" && c.Method == http.MethodPost && c.Query.Has("delete"):
		var in struct {
			Object []struct{ Key, VersionId string }
		}
		if err := xml.Unmarshal(c.Body, &in); err != nil {
			return nil, err
		}
		var out []Request
		for _, o := range in.Object {
			out = append(out, object("DeleteObject", o.Key))
		}
		return out, nil
	case key == "" && c.Query.Has("versions"):
		return []Request{whole("ListBucketVersions")}, nil
	case key == "" && (c.Method == http.MethodGet || c.Method == http.MethodHead):
		return []Request{whole("ListBucket")}, nil
	case key == "":
	case c.Method == http.MethodGet || c.Method == http.MethodHead:
		return []Request{object("GetObject"+version, key)}, nil
	case c.Method == http.MethodDelete && c.Query.Has("uploadId"):
		return []Request{object("AbortMultipartUpload", key)}, nil
	case c.Method == http.MethodDelete:
		return []Request{object("DeleteObject"+version, key)}, nil
	case c.Method == http.MethodPut, c.Method == http.MethodPost && (c.Query.Has("uploads") || c.Query.Has("uploadId")):
		out := []Request{object("PutObject", key)}
		if from := c.Header.Get("X-Amz-Copy-Source"); from != "" {
			from, err := url.PathUnescape(strings.TrimPrefix(from, "/"))
			if err != nil {
				return nil, err
			}
			var source string
			bucket, source, _ = strings.Cut(from, "/")
			out = append(out, object("GetObject", source))
		}
		return out, nil
	}
	return nil, nil
}

func lambda(p Place, c Call) ([]Request, error) {
	name, ok := strings.CutPrefix(c.Path, "/2015-03-31/functions/")
	if !ok {
		return nil, nil
	}
	name, ok = strings.CutSuffix(name, "/invocations")
	if !ok || c.Method != http.MethodPost {
		return nil, nil
	}
	name, err := url.PathUnescape(name)
	if err != nil {
		return nil, err
	}
	if !strings.HasPrefix(name, "arn:") {
		name = p.arn("lambda", "function:"+name)
	}
	return []Request{{Action: "lambda:InvokeFunction", Resource: name}}, nil
}
