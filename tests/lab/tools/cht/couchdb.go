// Copyright: Contributors to the cht.k3s project
// GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const couchdbPort = "5984"

func playCouchdb() {
	root := setting("STUB_ROOT", "/opt/couchdb")
	data, local := filepath.Join(root, "data"), filepath.Join(root, "etc/local.d")
	for _, folder := range []string{data, local} {
		if err := os.MkdirAll(folder, 0o755); err != nil {
			fail("%s", err)
		}
	}
	noteStart(data)
	// Only in a cluster has a node a name of its own, and it is not on the volume.
	name := "couchdb@127.0.0.1"
	first, peers := os.Getenv("COUCHDB_SYNC_ADMINS_NODE"), os.Getenv("CLUSTER_PEER_IPS")
	if first != "" || peers != "" {
		name = "couchdb@" + os.Getenv("SVC_NAME")
	}
	c := &couchdb{
		name: name, folder: data, settings: readSettings("/etc/couchdb-settings", local), store: &store{folder: data, node: name, open: map[string]*shard{}},
		nodes: map[string]bool{}, connected: map[string]bool{}, databases: map[string]database{}, client: &http.Client{Timeout: 5 * time.Second},
	}
	c.load()
	if first == "" {
		c.settings.seed("admins", os.Getenv("COUCHDB_USER"), os.Getenv("COUCHDB_PASSWORD"))
		c.settings.seed("couch_httpd_auth", "secret", os.Getenv("COUCHDB_SECRET"))
		c.settings.seed("couchdb", "uuid", os.Getenv("COUCHDB_UUID"))
	} else {
		c.takeOver(first)
	}
	if level := os.Getenv("COUCHDB_LOG_LEVEL"); level != "" {
		c.settings.set("log", "level", level)
	}
	took(couchdbStarts)
	c.settings.hashPasswords()
	c.join(name)
	peersListener, epmd := listen(erlangPort), listen(epmdPort)
	go func() { fail("%s", (&http.Server{Handler: c.peers()}).Serve(peersListener)) }()
	go func() {
		for {
			if connection, err := epmd.Accept(); err == nil {
				_ = connection.Close()
			}
		}
	}()
	go c.watch()
	go func() {
		// The script waits until CouchDB answers.
		time.Sleep(100 * time.Millisecond)
		c.setUp()
	}()
	serve(couchdbPort, c)
}

// noteStart adds a line to the volume for each start: tests see that data survives, and whose it is.
func noteStart(data string) {
	path := filepath.Join(data, "stub-starts")
	host, _ := os.Hostname()
	before, _ := os.ReadFile(path)
	line := fmt.Sprintf("%s %s %s\n", time.Now().UTC().Format(time.RFC3339), host, os.Getenv("STUB_TAG"))
	replace(path, append(before, line...))
	say("data has %d starts", strings.Count(string(before), "\n")+1)
}

func refuse(w http.ResponseWriter, status int, name, reason string) {
	if status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Basic realm="Medic Mobile Web Services"`)
	}
	answer(w, status, map[string]string{"error": name, "reason": reason})
}

// account returns who asks and its roles; a reason when it is refused.
func (c *couchdb) account(r *http.Request) (name string, roles []string, reason string) {
	if user, password, given := r.BasicAuth(); given {
		roles, known := c.check(user, password)
		if !known {
			return "", nil, "Name or password is incorrect."
		}
		return user, roles, ""
	}
	if cookie, err := r.Cookie("AuthSession"); err == nil {
		decoded, _ := base64.RawURLEncoding.DecodeString(cookie.Value)
		user, sum, _ := strings.Cut(string(decoded), ":")
		if user != "" && hmac.Equal([]byte(sum), []byte(c.seal(user))) {
			return user, c.rolesOf(user), ""
		}
		return "", nil, "Malformed AuthSession cookie. Please clear your cookies."
	}
	return "", []string{}, ""
}

// seal is what a session's cookie is signed with: the secret and the salt of the account's password, so that another password ends all sessions.
func (c *couchdb) seal(user string) string {
	secret, _ := c.settings.get("couch_httpd_auth", "secret")
	kept, _ := c.settings.get("admins", user)
	if kept == "" {
		kept = c.user(user).Derived
	}
	sum := hmac.New(sha1.New, []byte(secret+kept))
	sum.Write([]byte(user))
	return hex.EncodeToString(sum.Sum(nil))
}

type account struct {
	Name     string   `json:"name"`
	Password string   `json:"password,omitempty"`
	Derived  string   `json:"derived_key,omitempty"`
	Roles    []string `json:"roles"`
	Type     string   `json:"type"`
}

func (c *couchdb) user(name string) (result account) {
	entry, found := c.entry("_users")
	if !found {
		return
	}
	id := "org.couchdb.user:" + name
	if got, err := c.ask("_users", entry, rangeOf(id), order{Kind: "get", Document: document{ID: id}}); err == nil && got.Found && !got.Documents[0].Deleted {
		_ = json.Unmarshal(got.Documents[0].Body, &result)
	}
	return
}

func (c *couchdb) rolesOf(name string) []string {
	if _, found := c.settings.get("admins", name); found {
		return []string{"_admin"}
	}
	return c.user(name).Roles
}

func (c *couchdb) check(name, password string) ([]string, bool) {
	if kept, found := c.settings.get("admins", name); found {
		return []string{"_admin"}, matches(password, kept)
	}
	found := c.user(name)
	return found.Roles, found.Derived != "" && matches(password, found.Derived)
}

func (c *couchdb) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	name, roles, reason := c.account(r)
	if parts[0] == "_session" {
		c.session(w, r, name, roles, reason)
		return
	}
	if reason != "" || name == "" {
		refuse(w, http.StatusUnauthorized, "unauthorized", map[bool]string{true: "Authentication required.", false: reason}[reason == ""])
		return
	}
	switch parts[0] {
	case "":
		uuid, _ := c.settings.get("couchdb", "uuid")
		answer(w, 200, map[string]any{"couchdb": "Welcome", "version": "3.5.0", "uuid": uuid, "vendor": map[string]string{"name": "stub"}})
	case "_up":
		answer(w, 200, map[string]any{"status": "ok", "seeds": map[string]any{}})
	case "_membership":
		all, members := c.membership()
		answer(w, 200, map[string]any{"all_nodes": all, "cluster_nodes": members})
	case "_all_dbs":
		all := []string{}
		for name, entry := range c.state().Databases {
			if !entry.Gone {
				all = append(all, name)
			}
		}
		answer(w, 200, all)
	case "_active_tasks":
		answer(w, 200, []any{})
	case "_node":
		c.node(w, r, parts[1:], roles)
	default:
		c.database(w, r, parts, roles)
	}
}

func (c *couchdb) session(w http.ResponseWriter, r *http.Request, name string, roles []string, reason string) {
	if r.Method == http.MethodPost {
		var asked account
		if strings.HasPrefix(r.Header.Get("Content-Type"), "application/json") {
			_ = read(r.Body, &asked)
		} else {
			asked.Name, asked.Password = r.FormValue("name"), r.FormValue("password")
		}
		var known bool
		if roles, known = c.check(asked.Name, asked.Password); !known {
			refuse(w, 401, "unauthorized", "Name or password is incorrect.")
			return
		}
		value := base64.RawURLEncoding.EncodeToString([]byte(asked.Name + ":" + c.seal(asked.Name)))
		http.SetCookie(w, &http.Cookie{Name: "AuthSession", Value: value, Path: "/", HttpOnly: true, MaxAge: 31536000})
		answer(w, 200, map[string]any{"ok": true, "name": asked.Name, "roles": roles})
		return
	}
	if reason != "" {
		refuse(w, 401, "unauthorized", reason)
		return
	}
	user := map[string]any{"name": nil, "roles": roles}
	if name != "" {
		user["name"] = name
	}
	answer(w, 200, map[string]any{"ok": true, "userCtx": user, "info": map[string]any{}})
}

func isAdministrator(roles []string) bool {
	return strings.Contains(" "+strings.Join(roles, " ")+" ", " _admin ")
}

// node answers for /_node/NAME: its settings, and _dbs and _nodes as they are on its volume.
func (c *couchdb) node(w http.ResponseWriter, r *http.Request, parts []string, roles []string) {
	if !isAdministrator(roles) {
		refuse(w, 401, "unauthorized", "You are not a server admin.")
		return
	}
	if len(parts) < 2 || parts[0] != "_local" && parts[0] != c.name {
		refuse(w, 404, "not_found", "no such node: "+strings.Join(parts, "/"))
		return
	}
	switch {
	case parts[1] == "_config" && len(parts) == 3 && r.Method == http.MethodGet:
		answer(w, 200, c.settings.section(parts[2]))
	case parts[1] == "_config" && len(parts) == 4:
		c.config(w, r, parts[2], parts[3])
	case parts[1] == "_nodes":
		answer(w, 200, c.state().Nodes)
	case parts[1] == "_dbs":
		answer(w, 200, c.state().Databases)
	default:
		refuse(w, 404, "not_found", "missing")
	}
}

func (c *couchdb) config(w http.ResponseWriter, r *http.Request, section, key string) {
	before, found := c.settings.get(section, key)
	if section == "cht" && key == "version" {
		before, found = os.Getenv("STUB_TAG"), true
	}
	switch r.Method {
	case http.MethodPut:
		var value string
		if !read(r.Body, &value) {
			refuse(w, 400, "bad_request", "invalid UTF-8 JSON")
			return
		}
		if section == "admins" && !strings.HasPrefix(value, hashed) {
			value = hash(value)
		}
		c.settings.set(section, key, value)
	case http.MethodDelete:
		c.settings.remove(section, key)
	}
	if !found && r.Method != http.MethodPut {
		refuse(w, 404, "not_found", "unknown_config_value")
		return
	}
	answer(w, 200, before)
}

func (c *couchdb) failed(w http.ResponseWriter, err error) {
	if errors.Is(err, errNoShards) {
		refuse(w, 500, "internal_server_error", err.Error())
		return
	}
	refuse(w, 412, "nodedown", err.Error())
}

// database answers for /NAME and what is below it.
func (c *couchdb) database(w http.ResponseWriter, r *http.Request, parts []string, roles []string) {
	name := parts[0]
	entry, found := c.entry(name)
	if len(parts) == 1 && r.Method == http.MethodPut {
		if !isAdministrator(roles) {
			refuse(w, 401, "unauthorized", "You are not a server admin.")
		} else if found || !c.create(name) {
			refuse(w, 412, "file_exists", "The database could not be created, the file already exists.")
		} else {
			answer(w, 201, map[string]bool{"ok": true})
		}
		return
	}
	if !found {
		refuse(w, 404, "not_found", "Database does not exist.")
		return
	}
	if err := c.reachable(entry); err != nil {
		c.failed(w, err)
		return
	}
	if len(parts) == 1 {
		c.whole(w, r, name, entry)
		return
	}
	id := strings.Join(parts[1:], "/")
	switch id {
	case "_all_docs", "_changes":
		if id == "_changes" && r.FormValue("feed") == "continuous" {
			c.feed(w, r, entry)
			return
		}
		c.list(w, r, name, entry, id == "_changes")
	case "_bulk_docs":
		c.bulk(w, r, name, entry)
	case "_shards":
		shards := map[string][]string{}
		for where, node := range entry.Shards {
			shards[where] = []string{node}
		}
		answer(w, 200, map[string]any{"shards": shards})
	default:
		c.document(w, r, name, entry, id)
	}
}

func (c *couchdb) whole(w http.ResponseWriter, r *http.Request, name string, entry database) {
	switch r.Method {
	case http.MethodDelete:
		c.drop(name)
		answer(w, 200, map[string]bool{"ok": true})
	case http.MethodPost:
		var body map[string]any
		if !read(r.Body, &body) {
			refuse(w, 400, "bad_request", "invalid UTF-8 JSON")
			return
		}
		id, _ := body["_id"].(string)
		if id == "" {
			id = strconv.FormatInt(time.Now().UnixNano(), 16)
		}
		status, result := c.save(name, entry, id, body)
		answer(w, status, result)
	default:
		parts, err := c.askAll(name, entry, order{Kind: "count"})
		if err != nil {
			c.failed(w, err)
			return
		}
		var count [3]int
		for _, part := range parts {
			for number := range count {
				count[number] += part.Count[number]
			}
		}
		answer(w, 200, map[string]any{
			"db_name": name, "doc_count": count[0], "doc_del_count": count[1], "update_seq": strconv.Itoa(count[2]) + "-stub",
			"cluster": map[string]int{"q": shardCount, "n": 1, "w": 1, "r": 1}, "sizes": map[string]int{"file": 4096, "active": 4096, "external": 4096},
		})
	}
}

func (c *couchdb) list(w http.ResponseWriter, r *http.Request, name string, entry database, changes bool) {
	parts, err := c.askAll(name, entry, order{Kind: "all"})
	if err != nil {
		c.failed(w, err)
		return
	}
	found := map[string]document{}
	for _, part := range parts {
		for _, item := range part.Documents {
			if changes || !item.Deleted {
				found[item.ID] = item
			}
		}
	}
	rows := []any{}
	for _, id := range names(found) {
		row := map[string]any{"id": id, "key": id, "value": map[string]string{"rev": found[id].Rev}}
		if changes {
			row = map[string]any{"id": id, "changes": []any{map[string]string{"rev": found[id].Rev}}, "deleted": found[id].Deleted}
		} else if r.FormValue("include_docs") == "true" {
			row["doc"] = shown(found[id])
		}
		rows = append(rows, row)
	}
	if changes {
		answer(w, 200, map[string]any{"results": rows, "last_seq": strconv.Itoa(len(rows)) + "-stub"})
		return
	}
	answer(w, 200, map[string]any{"total_rows": len(rows), "offset": 0, "rows": rows})
}

// feed stays open as long as all shards can be read: with one copy of each it breaks with any node. Changes are not told.
func (c *couchdb) feed(w http.ResponseWriter, r *http.Request, entry database) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(200)
	pulse := time.NewTicker(200 * time.Millisecond)
	defer pulse.Stop()
	for number := 0; ; number++ {
		if number%25 == 0 {
			if _, err := w.Write([]byte("\n")); err != nil {
				return
			}
			_ = http.NewResponseController(w).Flush()
		}
		select {
		case <-r.Context().Done():
			return
		case <-pulse.C:
		}
		for _, node := range entry.Shards {
			if !c.isConnected(node) {
				say("a feed breaks: %s is gone", node)
				panic(http.ErrAbortHandler)
			}
		}
	}
}

func (c *couchdb) bulk(w http.ResponseWriter, r *http.Request, name string, entry database) {
	var asked struct {
		Docs []map[string]any `json:"docs"`
	}
	if !read(r.Body, &asked) {
		refuse(w, 400, "bad_request", "invalid UTF-8 JSON")
		return
	}
	results := []any{}
	for _, body := range asked.Docs {
		id, _ := body["_id"].(string)
		if id == "" {
			id = strconv.FormatInt(time.Now().UnixNano(), 16)
		}
		_, result := c.save(name, entry, id, body)
		results = append(results, result)
	}
	answer(w, 201, results)
}

func (c *couchdb) document(w http.ResponseWriter, r *http.Request, name string, entry database, id string) {
	if r.Method == http.MethodPut || r.Method == http.MethodDelete {
		body := map[string]any{"_deleted": true}
		if r.Method == http.MethodPut {
			body = map[string]any{}
			if !read(r.Body, &body) {
				refuse(w, 400, "bad_request", "invalid UTF-8 JSON")
				return
			}
		}
		if rev := r.FormValue("rev"); rev != "" {
			body["_rev"] = rev
		}
		status, result := c.save(name, entry, id, body)
		answer(w, status, result)
		return
	}
	got, err := c.ask(name, entry, rangeOf(id), order{Kind: "get", Document: document{ID: id}})
	if err != nil {
		c.failed(w, err)
	} else if !got.Found {
		refuse(w, 404, "not_found", "missing")
	} else if got.Documents[0].Deleted {
		refuse(w, 404, "not_found", "deleted")
	} else {
		answer(w, 200, shown(got.Documents[0]))
	}
}

func shown(found document) map[string]any {
	result := map[string]any{}
	_ = json.Unmarshal(found.Body, &result)
	result["_id"], result["_rev"] = found.ID, found.Rev
	return result
}

func (c *couchdb) save(name string, entry database, id string, body map[string]any) (int, map[string]any) {
	change := document{ID: id}
	change.Rev, _ = body["_rev"].(string)
	change.Deleted, _ = body["_deleted"].(bool)
	for _, key := range []string{"_id", "_rev", "_deleted"} {
		delete(body, key)
	}
	if password, given := body["password"].(string); given && name == "_users" {
		delete(body, "password")
		body["derived_key"] = hash(password)
	}
	change.Body, _ = json.Marshal(body)
	got, err := c.ask(name, entry, rangeOf(id), order{Kind: "put", Document: change})
	if err != nil {
		return 503, map[string]any{"id": id, "error": "nodedown", "reason": err.Error()}
	}
	if !got.Found {
		return 409, map[string]any{"id": id, "error": "conflict", "reason": "Document update conflict."}
	}
	return 201, map[string]any{"ok": true, "id": id, "rev": got.Documents[0].Rev}
}
