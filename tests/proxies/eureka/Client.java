package bed;

import com.netflix.appinfo.InstanceInfo;
import com.netflix.discovery.EurekaClient;
import com.netflix.discovery.shared.Application;
import java.util.TreeSet;
import org.springframework.boot.WebApplicationType;
import org.springframework.boot.autoconfigure.EnableAutoConfiguration;
import org.springframework.boot.builder.SpringApplicationBuilder;

/** Prints what its Eureka client knows, one line whenever that changes: APP/ADDRESS:PORT/STATUS, separated by spaces. */
@EnableAutoConfiguration
public class Client {
  public static void main(String[] args) throws InterruptedException {
    var context = new SpringApplicationBuilder(Client.class).web(WebApplicationType.NONE).run(args);
    var client = context.getBean(EurekaClient.class);
    String last = null;
    while (true) {
      var seen = new TreeSet<String>();
      for (Application app : client.getApplications().getRegisteredApplications()) {
        for (InstanceInfo it : app.getInstancesAsIsFromEureka()) {
          seen.add(app.getName() + "/" + it.getIPAddr() + ":" + it.getPort() + "/" + it.getStatus());
        }
      }
      String now = "known: " + String.join(" ", seen);
      if (!now.equals(last)) System.out.println(now);
      last = now;
      Thread.sleep(100);
    }
  }
}
