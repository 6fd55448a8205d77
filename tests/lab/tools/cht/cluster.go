// Copyright: Contributors to the cht.k3s project
// GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Where nodes talk to each other, as Erlang's do, and how often they look at each other.
const (
	erlangPort = "9100"
	epmdPort   = "4369"
	heartbeat  = 500 * time.Millisecond
	// A node whose process ended is missed at once, one that says nothing only after a while.
	silence = 15 * time.Second
)

var (
	errNoShards = errors.New("No DB shards could be opened.")
	errNodeDown = errors.New("progress not possible")
)

// database is an entry of _dbs: which node has which shard. All nodes keep all entries, and a node's name is never taken out of one.
type database struct {
	Suffix  string            `json:"suffix"`
	Shards  map[string]string `json:"shards"`
	Changed int64             `json:"changed"`
	Gone    bool              `json:"gone,omitempty"`
}

// couchdb is one node.
type couchdb struct {
	name      string
	folder    string
	settings  *settings
	store     *store
	mutex     sync.Mutex
	nodes     map[string]bool
	connected map[string]bool
	databases map[string]database
	client    *http.Client
}

// state is what nodes tell each other: _nodes and _dbs.
type state struct {
	Node      string              `json:"node"`
	Nodes     []string            `json:"nodes"`
	Databases map[string]database `json:"databases"`
}

// order is what one node asks another to do with a shard.
type order struct {
	Kind     string   `json:"kind"`
	Shard    string   `json:"shard"`
	Document document `json:"document"`
}

type outcome struct {
	Found     bool       `json:"found"`
	Documents []document `json:"documents"`
	Count     [3]int     `json:"count"`
}

func (c *couchdb) load() {
	for name, target := range map[string]any{"_nodes.couch": &c.nodes, "_dbs.couch": &c.databases} {
		if data, err := os.ReadFile(filepath.Join(c.folder, name)); err == nil {
			if err := json.Unmarshal(data, target); err != nil {
				fail("%s of the volume can't be read: %s", name, err)
			}
		}
	}
}

// keep writes _nodes and _dbs; the caller holds the lock.
func (c *couchdb) keep() {
	for name, value := range map[string]any{"_nodes.couch": c.nodes, "_dbs.couch": c.databases} {
		data, _ := json.Marshal(value)
		replace(filepath.Join(c.folder, name), data)
	}
}

func (c *couchdb) join(name string) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if !c.nodes[name] {
		c.nodes[name] = true
		c.keep()
	}
}

func (c *couchdb) state() state {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	databases := map[string]database{}
	for name, entry := range c.databases {
		databases[name] = entry
	}
	return state{c.name, names(c.nodes), databases}
}

// merge takes over what another node knows.
func (c *couchdb) merge(other state) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	news := false
	for _, name := range other.Nodes {
		news = news || !c.nodes[name]
		c.nodes[name] = true
	}
	for name, entry := range other.Databases {
		if entry.Changed > c.databases[name].Changed {
			c.databases[name], news = entry, true
		}
	}
	if news {
		c.keep()
	}
}

func (c *couchdb) membership() (all, members []string) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	for name := range c.connected {
		all = append(all, name)
	}
	all = append(all, c.name)
	sort.Strings(all)
	return all, names(c.nodes)
}

func (c *couchdb) isConnected(name string) bool {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	return name == c.name || c.connected[name]
}

// watch keeps an eye on each other node, new ones included.
func (c *couchdb) watch() {
	watched := map[string]bool{c.name: true}
	for ; ; time.Sleep(heartbeat) {
		for _, name := range c.state().Nodes {
			if !watched[name] {
				watched[name] = true
				go c.follow(name)
			}
		}
	}
}

// follow holds a connection to another node. Its end is the end of that node; where there is none yet, it is tried again and again.
func (c *couchdb) follow(name string) {
	for ; ; time.Sleep(heartbeat) {
		var other state
		if err := c.tell(name, "/state", c.state(), &other); err == nil && other.Node == name {
			c.merge(other)
			c.hold(name)
		}
	}
}

// hold takes over what the other node tells with each of its pulses, until the connection ends or is silent for long.
func (c *couchdb) hold(name string) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	_, host, _ := strings.Cut(name, "@")
	request, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+host+":"+erlangPort+"/pulse", nil)
	patience := time.AfterFunc(silence, cancel)
	defer patience.Stop()
	response, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(request)
	if err != nil {
		return
	}
	defer response.Body.Close()
	for pulses := json.NewDecoder(response.Body); ; {
		var other state
		// Behind an address there may be another node than the one that is meant.
		if pulses.Decode(&other) != nil || other.Node != name {
			break
		}
		patience.Reset(silence)
		c.merge(other)
		c.connect(name, true)
	}
	c.connect(name, false)
}

func (c *couchdb) connect(name string, there bool) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if there == c.connected[name] {
		return
	}
	if there {
		say("%s is connected", name)
		c.connected[name] = true
	} else {
		say("%s is gone", name)
		delete(c.connected, name)
	}
}

func (c *couchdb) tell(name, path string, body, target any) error {
	_, host, _ := strings.Cut(name, "@")
	data, _ := json.Marshal(body)
	response, err := c.client.Post("http://"+host+":"+erlangPort+path, "application/json", bytes.NewReader(data))
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %d", name, response.StatusCode)
	}
	return json.NewDecoder(response.Body).Decode(target)
}

// peers answers the other nodes.
func (c *couchdb) peers() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /state", func(w http.ResponseWriter, r *http.Request) {
		var other state
		if read(r.Body, &other) {
			c.merge(other)
		}
		answer(w, http.StatusOK, c.state())
	})
	mux.HandleFunc("GET /pulse", func(w http.ResponseWriter, r *http.Request) {
		for ; r.Context().Err() == nil; time.Sleep(heartbeat) {
			if json.NewEncoder(w).Encode(c.state()) != nil || http.NewResponseController(w).Flush() != nil {
				return
			}
		}
	})
	mux.HandleFunc("POST /shard", func(w http.ResponseWriter, r *http.Request) {
		var asked order
		if !read(r.Body, &asked) {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		answer(w, http.StatusOK, c.perform(asked))
	})
	return mux
}

func (c *couchdb) perform(asked order) outcome {
	switch asked.Kind {
	case "get":
		found, there := c.store.get(asked.Shard, asked.Document.ID)
		return outcome{Found: there, Documents: []document{found}}
	case "put":
		kept, done := c.store.put(asked.Shard, asked.Document)
		return outcome{Found: done, Documents: []document{kept}}
	case "remove":
		c.store.remove(asked.Shard)
		return outcome{}
	case "count":
		var count [3]int
		for _, item := range c.store.all(asked.Shard) {
			if item.Deleted {
				count[1]++
			} else {
				count[0]++
			}
		}
		count[2] = count[0] + count[1]
		return outcome{Count: count}
	}
	return outcome{Documents: c.store.all(asked.Shard)}
}

// entry is a database that exists.
func (c *couchdb) entry(name string) (database, bool) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	entry, found := c.databases[name]
	return entry, found && !entry.Gone
}

// reachable tells what can be done with a database while nodes are away: nothing when none of its shards can be opened.
func (c *couchdb) reachable(entry database) error {
	for _, node := range entry.Shards {
		if c.isConnected(node) {
			return nil
		}
	}
	return errNoShards
}

// ask lets the node that has a shard do something with it.
func (c *couchdb) ask(name string, entry database, where string, asked order) (outcome, error) {
	node := entry.Shards[where]
	asked.Shard = where + "/" + name + "." + entry.Suffix
	if node == c.name {
		return c.perform(asked), nil
	}
	if !c.isConnected(node) {
		return outcome{}, errNodeDown
	}
	var result outcome
	if err := c.tell(node, "/shard", asked, &result); err != nil {
		return outcome{}, errNodeDown
	}
	return result, nil
}

// askAll asks for all shards of a database.
func (c *couchdb) askAll(name string, entry database, asked order) ([]outcome, error) {
	result := make([]outcome, 0, len(entry.Shards))
	for _, where := range names(entry.Shards) {
		part, err := c.ask(name, entry, where, asked)
		if err != nil {
			return nil, err
		}
		result = append(result, part)
	}
	return result, nil
}

// create spreads the shards of a new database over the nodes of the cluster.
func (c *couchdb) create(name string) bool {
	if _, found := c.entry(name); found {
		return false
	}
	c.mutex.Lock()
	now := time.Now()
	entry := database{Suffix: strconv.FormatInt(now.Unix(), 10), Shards: map[string]string{}, Changed: now.UnixNano()}
	members := names(c.nodes)
	for number, where := range ranges() {
		entry.Shards[where] = members[number%len(members)]
	}
	c.databases[name] = entry
	c.keep()
	c.mutex.Unlock()
	_, _ = c.askAll(name, entry, order{Kind: "count"})
	return true
}

func (c *couchdb) drop(name string) bool {
	entry, found := c.entry(name)
	if !found {
		return false
	}
	_, _ = c.askAll(name, entry, order{Kind: "remove"})
	c.mutex.Lock()
	defer c.mutex.Unlock()
	entry.Gone, entry.Changed = true, time.Now().UnixNano()
	c.databases[name] = entry
	c.keep()
	return true
}

// waitFor waits until a CouchDB answers the administrator, as long as CHT's script does, and returns whether it did.
func (c *couchdb) waitFor(host string) bool {
	attempts, _ := strconv.Atoi(setting("WAIT_THRESHOLD", "20"))
	// Patience is not work: it is as long whatever STUB_TIME is.
	for begin := time.Now(); time.Since(begin).Seconds() < float64(attempts+1)*bootstrapPauses; {
		if status, _ := c.curl(http.MethodGet, host, "/"); status == http.StatusOK {
			return true
		}
		say("waits for %s", host)
		time.Sleep(100 * time.Millisecond)
		took(bootstrapPauses)
	}
	return false
}

func (c *couchdb) curl(method, host, path string) (int, []byte) {
	request, _ := http.NewRequest(method, "http://"+host+":"+couchdbPort+path, nil)
	request.SetBasicAuth(os.Getenv("COUCHDB_USER"), os.Getenv("COUCHDB_PASSWORD"))
	response, err := (&http.Client{Timeout: 5 * time.Second}).Do(request)
	if err != nil {
		return 0, nil
	}
	defer response.Body.Close()
	body, _ := io.ReadAll(response.Body)
	return response.StatusCode, body
}

// takeOver gets from the first node what all nodes have to share. Without that node there is no other one.
func (c *couchdb) takeOver(first string) {
	if !c.waitFor(first) {
		fail("no CouchDB answers at %s", first)
	}
	user := os.Getenv("COUCHDB_USER")
	for _, item := range [][3]string{
		{"admins", user, ""}, {"couch_httpd_auth", "secret", "seed"}, {"couchdb", "uuid", "seed"},
	} {
		_, body := c.curl(http.MethodGet, first, "/_node/couchdb@"+first+"/_config/"+item[0]+"/"+url.PathEscape(item[1]))
		var value string
		if json.Unmarshal(body, &value) != nil {
			fail("%s does not tell its %s", first, item[0])
		}
		if item[2] == "seed" {
			c.settings.seed(item[0], item[1], value)
		} else if there, _ := c.settings.get(item[0], item[1]); there != value {
			c.settings.set(item[0], item[1], value)
		}
	}
}

// setUp makes one cluster of the first node and its peers, beside CouchDB, which runs already.
func (c *couchdb) setUp() {
	if os.Getenv("CLUSTER_PEER_IPS") == "" && os.Getenv("COUCHDB_SYNC_ADMINS_NODE") != "" {
		return
	}
	for _, peer := range strings.Split(os.Getenv("CLUSTER_PEER_IPS"), ",") {
		_, members := c.membership()
		if peer == "" || strings.Contains(strings.Join(members, " "), peer) {
			continue
		}
		if !c.waitFor(peer) {
			say("no CouchDB answers at %s: the cluster is not set up", peer)
			return
		}
		c.join("couchdb@" + peer)
		say("%s joins", peer)
	}
	for _, name := range []string{"_users", "_replicator", "_global_changes"} {
		if c.create(name) {
			say("makes %s", name)
		}
	}
}
