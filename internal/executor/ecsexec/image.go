package ecsexec

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"github.com/aws/smithy-go"

	"github.com/gustflow/gust/internal/awsenv"
)

// imageFamily names the task definitions of an image: those of another base
// definition, which a deployment changes, have another name.
func imageFamily(baseARN, image string) string {
	family := baseARN[strings.LastIndexByte(baseARN, '/')+1:]
	family, _, _ = strings.Cut(family, ":")
	sum := sha256.Sum256([]byte(baseARN + "\n" + image))
	return family + "-image-" + hex.EncodeToString(sum[:8])
}

// withImage lets a call use a task definition with another image: the one that was
// registered for it, by whichever process, or a new one.
func (x *Executor) withImage(ctx context.Context, in *ecs.RunTaskInput, image string) error {
	base := aws.ToString(in.TaskDefinition)
	key := base + "\n" + image
	x.mu.Lock()
	arn := x.definitions[key]
	x.mu.Unlock()
	if arn == "" {
		var err error
		if arn, err = x.definition(ctx, base, image); err != nil {
			return fmt.Errorf("task definition for the image %s: %w", image, err)
		}
		x.mu.Lock()
		x.definitions[key] = arn
		x.mu.Unlock()
	}
	in.TaskDefinition = &arn
	return nil
}

func (x *Executor) definition(ctx context.Context, base, image string) (string, error) {
	family := imageFamily(base, image)
	have, err := x.o.API.DescribeTaskDefinition(ctx, &ecs.DescribeTaskDefinitionInput{TaskDefinition: &family})
	var api smithy.APIError
	switch {
	case err == nil && have.TaskDefinition != nil:
		return aws.ToString(have.TaskDefinition.TaskDefinitionArn), nil
	case err != nil && (!errors.As(err, &api) || api.ErrorCode() != "ClientException"): // ClientException: there is none
		return "", err
	}
	from, err := x.o.API.DescribeTaskDefinition(ctx, &ecs.DescribeTaskDefinitionInput{TaskDefinition: &base})
	if err != nil {
		return "", err
	}
	t := from.TaskDefinition
	containers := append([]types.ContainerDefinition(nil), t.ContainerDefinitions...)
	found := false
	for i := range containers {
		if aws.ToString(containers[i].Name) == awsenv.ECSContainer {
			containers[i].Image, found = &image, true
		}
	}
	if !found {
		return "", fmt.Errorf("%s has no container %q", base, awsenv.ECSContainer)
	}
	out, err := x.o.API.RegisterTaskDefinition(ctx, &ecs.RegisterTaskDefinitionInput{
		Family: &family, ContainerDefinitions: containers, TaskRoleArn: t.TaskRoleArn, ExecutionRoleArn: t.ExecutionRoleArn, NetworkMode: t.NetworkMode,
		Cpu: t.Cpu, Memory: t.Memory, RequiresCompatibilities: t.RequiresCompatibilities, RuntimePlatform: t.RuntimePlatform, Volumes: t.Volumes, EphemeralStorage: t.EphemeralStorage,
	})
	if err != nil {
		return "", err
	}
	return aws.ToString(out.TaskDefinition.TaskDefinitionArn), nil
}
