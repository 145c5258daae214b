import jakarta.mail.Session;
import jakarta.mail.Transport;
import jakarta.mail.internet.InternetAddress;
import jakarta.mail.internet.MimeMessage;
import java.util.Properties;

/** Sends one message by Angus Mail: java -cp JARS Send.java HOST PORT, with the message on standard input. */
public class Send {
    public static void main(String[] arguments) throws Exception {
        Properties properties = new Properties();
        properties.setProperty("mail.smtp.host", arguments[0]);
        properties.setProperty("mail.smtp.port", arguments[1]);
        properties.setProperty("mail.smtp.from", "app@shop.example");
        properties.setProperty("mail.smtp.timeout", "60000");
        MimeMessage message = new MimeMessage(Session.getInstance(properties), System.in);
        Transport.send(message, InternetAddress.parse("one@example.net, two@example.net"));
    }
}
