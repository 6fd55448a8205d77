// Copyright: Contributors to the cht.k3s project
// GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"strings"
	"time"
)

// playHealthcheck tells haproxy's agent check whether the cluster is whole, as its first node sees it.
func playHealthcheck() {
	servers := strings.Split(os.Getenv("COUCHDB_SERVERS"), ",")
	took(healthStarts)
	for listener := listen("5555"); ; {
		connection, err := listener.Accept()
		if err != nil {
			fail("%s", err)
		}
		go func() {
			defer connection.Close()
			answer := "down\n"
			if isWhole(servers) {
				answer = "up\n"
			}
			_, _ = connection.Write([]byte(answer))
		}()
	}
}

func isWhole(servers []string) bool {
	request, _ := http.NewRequest(http.MethodGet, "http://"+servers[0]+":"+couchdbPort+"/_membership", nil)
	request.SetBasicAuth(os.Getenv("COUCHDB_USER"), os.Getenv("COUCHDB_PASSWORD"))
	// CHT has a second's patience; on machines that share two cores that is too little.
	response, err := (&http.Client{Timeout: 3 * time.Second}).Do(request)
	if err != nil {
		return false
	}
	defer response.Body.Close()
	var found struct {
		All     []string `json:"all_nodes"`
		Members []string `json:"cluster_nodes"`
	}
	if response.StatusCode != 200 || !read(response.Body, &found) {
		return false
	}
	sort.Strings(found.All)
	sort.Strings(found.Members)
	return len(found.All) == len(servers) && strings.Join(found.All, " ") == strings.Join(found.Members, " ")
}

// playSentinel waits for CouchDB and API. Where its feed breaks it begins again, and goes on.
func playSentinel() {
	api := "http://" + setting("API_HOST", "localhost") + ":" + port("API_PORT", "5988") + "/setup/poll"
	took(sentinelStarts)
	for {
		if response, err := http.Get(api); err == nil {
			_ = response.Body.Close()
			break
		}
		say("Waiting for API to be ready...")
		time.Sleep(time.Second)
		took(9)
	}
	say("startup complete")
	stay()
}

func playNouveau() {
	took(nouveauStarts)
	serve("5987", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer(w, 404, map[string]any{"code": 404, "message": "HTTP 404 Not Found"})
	}))
}

// cluster is the Kubernetes API as the pod's service account may use it.
type cluster struct {
	base   string
	token  string
	client *http.Client
}

const serviceAccount = "/var/run/secrets/kubernetes.io/serviceaccount"

func ownCluster() (*cluster, error) {
	folder := setting("STUB_SERVICE_ACCOUNT", serviceAccount)
	token, err := os.ReadFile(filepath.Join(folder, "token"))
	if err != nil {
		return nil, err
	}
	authority, err := os.ReadFile(filepath.Join(folder, "ca.crt"))
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(authority)
	client := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
	base := "https://" + os.Getenv("KUBERNETES_SERVICE_HOST") + ":" + os.Getenv("KUBERNETES_SERVICE_PORT")
	return &cluster{base, strings.TrimSpace(string(token)), client}, nil
}

func (k *cluster) ask(method, path string, body, target any) error {
	data, _ := json.Marshal(body)
	request, _ := http.NewRequest(method, k.base+path, bytes.NewReader(data))
	request.Header.Set("Authorization", "Bearer "+k.token)
	request.Header.Set("Content-Type", "application/json")
	response, err := k.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode >= 300 {
		return fmt.Errorf("%s %s: %s", method, path, response.Status)
	}
	if target != nil && !read(response.Body, target) {
		return fmt.Errorf("%s %s: no JSON", method, path)
	}
	return nil
}

type pod struct {
	Metadata struct{ Name string }
	Status   struct {
		Phase             string
		ContainerStatuses []struct {
			Name  string
			Ready bool
			State map[string]any
		}
	}
}

// playUpgradeService sets the images of the Deployments of its namespace.
func playUpgradeService() {
	took(upgraderStarts)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) {
		answer(w, 200, map[string]string{"message": "CHT upgrade service"})
	})
	mux.HandleFunc("POST /upgrade", func(w http.ResponseWriter, r *http.Request) {
		var asked struct {
			Containers []struct {
				Name  string `json:"container_name"`
				Image string `json:"image_tag"`
			} `json:"containers"`
		}
		if !read(r.Body, &asked) || len(asked.Containers) == 0 {
			answer(w, 400, map[string]string{"message": "No containers supplied"})
			return
		}
		images := map[string]string{}
		for _, item := range asked.Containers {
			images[item.Name] = item.Image
		}
		changed, err := setImages(setting("CHT_NAMESPACE", "default"), images)
		if err != nil {
			say("%s", err)
			answer(w, 500, map[string]string{"message": err.Error()})
			return
		}
		answer(w, 200, changed)
	})
	serve(port("UPGRADE_SERVICE_PORT", "5008"), mux)
}

// setImages refuses while any pod of the namespace does not run, whatever left it behind.
func setImages(namespace string, images map[string]string) (map[string]any, error) {
	k, err := ownCluster()
	if err != nil {
		return nil, err
	}
	var pods struct{ Items []pod }
	if err := k.ask(http.MethodGet, "/api/v1/namespaces/"+namespace+"/pods", nil, &pods); err != nil {
		return nil, err
	}
	for _, item := range pods.Items {
		running := item.Status.Phase != "Pending" && len(item.Status.ContainerStatuses) > 0
		for _, container := range item.Status.ContainerStatuses {
			running = running && container.State["running"] != nil
		}
		if !running {
			return nil, fmt.Errorf("pod %s is not ready", item.Metadata.Name)
		}
	}
	path := "/apis/apps/v1/namespaces/" + namespace + "/deployments"
	var deployments struct{ Items []map[string]any }
	if err := k.ask(http.MethodGet, path, nil, &deployments); err != nil {
		return nil, err
	}
	changed := map[string]any{}
	for _, item := range deployments.Items {
		fits := false
		for _, entry := range at(item, "spec", "template", "spec")["containers"].([]any) {
			container := entry.(map[string]any)
			for name, image := range images {
				if regexp.MustCompile("^" + regexp.QuoteMeta(name) + "(-[0-9]+)?$").MatchString(container["name"].(string)) {
					container["image"], fits = image, true
					changed[container["name"].(string)] = map[string]bool{"ok": true}
				}
			}
		}
		if fits {
			item["apiVersion"], item["kind"] = "apps/v1", "Deployment"
			if err := k.ask(http.MethodPut, path+"/"+at(item, "metadata")["name"].(string), item, nil); err != nil {
				return nil, err
			}
		}
	}
	return changed, nil
}

func at(item map[string]any, keys ...string) map[string]any {
	for _, key := range keys {
		item = item[key].(map[string]any)
	}
	return item
}
