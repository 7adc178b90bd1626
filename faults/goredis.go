package main

import (
	"context"

	"github.com/redis/go-redis/v9"
)

// go-redis remarks on every connection that breaks. Here they all do.
func init() { redis.SetLogger(silent{}) }

type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}

// goRedis is a client with its defaults, for one deployment. It connects when it is used.
func goRedis(at Place) redis.UniversalClient {
	switch at.Kind {
	case Sentinel:
		return redis.NewFailoverClient(&redis.FailoverOptions{MasterName: at.Primary, SentinelAddrs: at.Servers})
	case Cluster:
		return redis.NewClusterClient(&redis.ClusterOptions{Addrs: at.Servers})
	default:
		return redis.NewClient(&redis.Options{Addr: at.Servers[0]})
	}
}
