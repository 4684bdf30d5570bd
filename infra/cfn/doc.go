// Package cfn reads synthesised CloudFormation templates for tests and reports:
// it resolves what is known before a deploy, and judges IAM policies the way AWS
// does, as far as the policies of this project go. It is no deployer.
package cfn
