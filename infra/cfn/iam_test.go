package cfn

import "testing"

func TestMatch(t *testing.T) {
	for _, c := range []struct {
		pattern, s string
		want       bool
	}{
		{"TI#*", "TI#a#b", true}, {"TI#*", "TI", false}, {"RUNS#*", "RUN#a", false}, {"*", "", true}, {"a*c*e", "abcde", true},
		{"a*c*e", "abcdef", false}, {"a?c", "abc", true}, {"a?c", "ac", false}, {"*:x", "a:b:x", true}, {"", "", true}, {"", "a", false},
	} {
		if got := Match(c.pattern, c.s); got != c.want {
			t.Errorf("Match(%q, %q) = %v", c.pattern, c.s, got)
		}
	}
}

func TestAllows(t *testing.T) {
	tmpl, err := Parse([]byte(`{"Resources":{"R":{"Type":"AWS::IAM::Role","Properties":{
		"AssumeRolePolicyDocument":{"Statement":[{"Action":"sts:AssumeRole","Effect":"Allow","Principal":{"Service":"lambda.amazonaws.com"}}]},
		"Policies":[{"PolicyName":"p","PolicyDocument":{"Statement":[
			{"Sid":"Rows","Effect":"Allow","Action":["dynamodb:PutItem"],"Resource":{"Fn::Join":["",["arn:",{"Ref":"AWS::Partition"},":dynamodb:x"]]},
			 "Condition":{"ForAllValues:StringLike":{"dynamodb:LeadingKeys":["TI#*"]},"Null":{"dynamodb:LeadingKeys":"false"}}},
			{"Sid":"No","Effect":"Deny","Action":"dynamodb:*","Resource":"*","Condition":{"StringLike":{"dynamodb:LeadingKeys":["TI#secret#*"]}}}]}}]}},
		"P":{"Type":"AWS::IAM::Policy","Properties":{"Roles":[{"Ref":"R"}],"PolicyDocument":{"Statement":[{"Effect":"Allow","Action":"sqs:SendMessage","Resource":{"Fn::GetAtt":["Q","Arn"]}}]}}}}}`))
	if err != nil {
		t.Fatal(err)
	}
	role := tmpl.Roles()["R"]
	keys := func(k ...string) map[string][]string { return map[string][]string{"dynamodb:LeadingKeys": k} }
	for name, c := range map[string]struct {
		q    Request
		want bool
	}{
		"own row":        {Request{"dynamodb:PutItem", "arn:aws:dynamodb:x", keys("TI#a")}, true},
		"case of action": {Request{"DynamoDB:putitem", "arn:aws:dynamodb:x", keys("TI#a")}, true},
		"other row":      {Request{"dynamodb:PutItem", "arn:aws:dynamodb:x", keys("RUN#a")}, false},
		"one of two":     {Request{"dynamodb:PutItem", "arn:aws:dynamodb:x", keys("TI#a", "RUN#a")}, false},
		"no key at all":  {Request{"dynamodb:PutItem", "arn:aws:dynamodb:x", nil}, false},
		"denied":         {Request{"dynamodb:PutItem", "arn:aws:dynamodb:x", keys("TI#secret#a")}, false},
		"other action":   {Request{"dynamodb:GetItem", "arn:aws:dynamodb:x", keys("TI#a")}, false},
		"other table":    {Request{"dynamodb:PutItem", "arn:aws:dynamodb:y", keys("TI#a")}, false},
		"second policy":  {Request{"sqs:SendMessage", "<Q.Arn>", nil}, true},
	} {
		got, err := role.Allows(c.q)
		if err != nil || got != c.want {
			t.Errorf("%s: %v, %v; want %v", name, got, err, c.want)
		}
	}
	role.Statements[0].Conditions["IpAddress"] = map[string][]string{"aws:SourceIp": {"1.2.3.4"}}
	if _, err := role.Allows(Request{"dynamodb:PutItem", "arn:aws:dynamodb:x", keys("TI#a")}); err == nil {
		t.Error("an unknown condition must be an error, not a pass")
	}
}
